/* SPDX-License-Identifier: MIT */
/* server: a server with users that come and go. Each request makes blocks that live as long as the
 * request, and changes what is kept for its session.
 *
 *   sessions   most end after a few requests, some after a hundred, a few stay for thousands
 *   load       rises and falls twice: between a fifth and all of the sessions are open
 *   threads    each serves a share of the sessions; after every epoch the shares move on, so that
 *              blocks are freed by another thread than the one that allocated them
 *
 * stresses:   blocks of different lifetimes side by side, frees from another thread, and memory over
 *             time: it is read after each epoch (rss_ms, rss_kib)
 * arguments:  threads, sessions of a share, requests for a share, epochs, seed
 * operation:  one request: some 5 to 20 short-lived blocks of 16-1039 bytes, a buffer of 1-16 KiB that
 *             grows once, one block added to the session or replaced. Elapsed time, all threads
 * wins:       time: the allocator that is fast at the ordinary mixture and brings blocks home cheaply; the slowest
 *             requests: the allocator that does no large piece of work at once. Memory: the allocator that follows the
 *             load down; long-lived blocks strewn over all slabs are what prevents it
 */
#include "bench_memory.h"
#include "bench_run.h"
#include "bench_threads.h"

enum { KEPT = 32, SHORT_LIVED = 16 };

struct session {
    uint64_t requests_left; /* 0: closed */
    uint64_t kept;
    uint64_t *blocks[KEPT];
};

struct share {
    _Alignas(BENCH_CACHE_LINE) struct session *sessions;
    uint64_t random, checksum;
};

struct worker {
    uint64_t index;
    struct bench_samples *samples; /* NULL: not in this part */
};

/* Constant while the threads run, but for the memory, which belongs to thread 0. */
static struct {
    struct share *shares;
    uint64_t threads, sessions, requests, epochs, start;
    pthread_barrier_t epoch;
    struct bench_memory memory;
} shared;

static uint64_t *new_block(size_t size, uint64_t content)
{
    uint64_t *block = malloc(size);

    if (!block)
        bench_out_of_memory(size);
    bench_touch(block, size, 64, content);
    return block;
}

static void close_session(struct share *share, struct session *session)
{
    for (uint64_t i = 0; i < session->kept; i++) {
        share->checksum += *session->blocks[i];
        free(session->blocks[i]);
    }
    session->kept = session->requests_left = 0;
}

static uint64_t lifetime(uint64_t random)
{
    uint64_t kind = bench_below(random << 32, 100);

    return 1 + bench_below(random, kind < 80 ? 10 : kind < 98 ? 100 : 5000);
}

/* What is allocated and freed again while the answer is made. */
static void answer(struct share *share)
{
    uint64_t choice = bench_random(&share->random);
    uint64_t count = 5 + bench_below(choice, SHORT_LIVED), *blocks[5 + SHORT_LIVED];
    size_t size = bench_log_size(choice, 1024, 3);
    uint64_t *buffer = new_block(size, choice);

    for (uint64_t i = 0; i < count; i++) {
        choice = bench_random(&share->random);
        blocks[i] = new_block(16 + bench_below(choice, choice % 4 ? 112 : 1024), choice);
    }
    buffer = realloc(buffer, 2 * size);
    if (!buffer)
        bench_out_of_memory(2 * size);
    bench_touch(buffer, 2 * size, 64, *buffer);
    for (uint64_t i = 0; i < count; i++) {
        share->checksum += *blocks[i];
        free(blocks[i]);
    }
    share->checksum += *buffer;
    free(buffer);
}

static void serve_request(struct share *share, uint64_t open)
{
    uint64_t choice = bench_random(&share->random);
    struct session *session = &share->sessions[bench_below(choice, open)];
    uint64_t place = session->kept;
    size_t size = 32 + (choice & 511);

    if (!session->requests_left)
        session->requests_left = lifetime(bench_random(&share->random));
    answer(share);
    if (place < KEPT) {
        session->kept++;
    } else {
        place = choice % KEPT;
        share->checksum += *session->blocks[place];
        free(session->blocks[place]);
    }
    session->blocks[place] = new_block(size, choice);
    if (!--session->requests_left)
        close_session(share, session);
}

/* The number of open sessions rises from a fifth to all of them and falls again, twice. */
static uint64_t open_sessions(uint64_t epoch)
{
    uint64_t half = shared.epochs / 4 ? shared.epochs / 4 : 1, at = epoch % (2 * half);
    uint64_t height = at < half ? at : 2 * half - at;
    uint64_t open = shared.sessions / 5 + (shared.sessions - shared.sessions / 5) * height / half;

    return open ? open : 1;
}

static void serve_epoch(struct share *share, uint64_t epoch, struct bench_samples *samples)
{
    uint64_t open = open_sessions(epoch);
    uint64_t requests =
        shared.requests * (epoch + 1) / shared.epochs - shared.requests * epoch / shared.epochs;

    for (uint64_t i = open; i < shared.sessions; i++)
        close_session(share, &share->sessions[i]);
    for (uint64_t i = 0; i < requests; i++) {
        uint64_t start = bench_sample_start(samples);

        serve_request(share, open);
        bench_sample_end(samples, start);
    }
}

static void work(void *argument)
{
    struct worker *worker = argument;

    for (uint64_t epoch = 0; epoch < shared.epochs; epoch++) {
        serve_epoch(&shared.shares[(worker->index + epoch) % shared.threads], epoch,
                    worker->samples);
        pthread_barrier_wait(&shared.epoch);
        if (worker->index == 0 && !worker->samples)
            bench_memory_add(&shared.memory, bench_nanoseconds() - shared.start,
                             bench_resident_kib());
    }
}

enum { THREADS, SESSIONS, REQUESTS, EPOCHS, SEED };

static struct worker *workers;

static void prepare(const struct bench_argument *argument)
{
    shared.threads = argument[THREADS].value;
    shared.sessions = argument[SESSIONS].value;
    shared.requests = argument[REQUESTS].value;
    shared.epochs = argument[EPOCHS].value;
    shared.shares = bench_aligned_table(BENCH_CACHE_LINE, shared.threads, sizeof(*shared.shares));
    workers = bench_table(shared.threads, sizeof(*workers));
    for (uint64_t i = 0; i < shared.threads; i++) {
        workers[i].index = i;
        shared.shares[i].random = bench_random_state(argument[SEED].value + i);
        shared.shares[i].sessions = bench_table(shared.sessions, sizeof(struct session));
    }
    pthread_barrier_init(&shared.epoch, NULL, (unsigned)shared.threads);
}

static void run(const struct bench_argument *argument, struct bench_result *result)
{
    (void)argument;
    result->operations = shared.threads * shared.requests;
    shared.start = bench_nanoseconds();
    result->nanoseconds = bench_run_threads(shared.threads, work, workers, sizeof(*workers));
    for (uint64_t i = 0; i < shared.threads; i++)
        result->checksum += shared.shares[i].checksum;
}

static void sample(const struct bench_argument *argument, uint64_t operations,
                   struct bench_samples *samples)
{
    (void)argument;
    shared.requests = (operations + shared.threads - 1) / shared.threads;
    for (uint64_t i = 0; i < shared.threads; i++)
        workers[i].samples = bench_table(1, sizeof(*workers[i].samples));
    bench_run_threads(shared.threads, work, workers, sizeof(*workers));
    for (uint64_t i = 0; i < shared.threads; i++)
        bench_samples_add(samples, workers[i].samples);
}

static void report(void)
{
    bench_report_memory("rss", &shared.memory);
}

int main(int argc, char **argv)
{
    static struct bench_argument argument[] = {
        {"threads", "threads at once, and shares of sessions", 2, 1, BENCH_THREADS_MOST},
        {"sessions", "sessions of a share", 5000, 1, UINT64_C(1) << 32},
        {"requests", "requests for a share", 300000, 1, UINT64_C(1) << 40},
        {"epochs", "after each the shares move on to the next thread", 48, 1, BENCH_MOMENTS},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        BENCH_LATENCY_OPTION,
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "server",
                                              BENCH_ARGUMENTS(argument),
                                              .prepare = prepare,
                                              .run = run,
                                              .sample = sample,
                                              .report = report});
}
