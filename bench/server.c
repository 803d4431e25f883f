/* SPDX-License-Identifier: MIT */
/* server: a server with users who come and go. Each request makes blocks that live as long as the
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
 * wins:       time: whoever is fast at the ordinary mixture and brings blocks home cheaply; the slowest
 *             requests: whoever does no large piece of work at once. Memory: whoever follows the
 *             load down; long-lived blocks strewn over all slabs are what prevents it
 */
#include "bench_latency.h"
#include "bench_memory.h"
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
} run;

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
    uint64_t half = run.epochs / 4 ? run.epochs / 4 : 1, at = epoch % (2 * half);
    uint64_t height = at < half ? at : 2 * half - at;
    uint64_t open = run.sessions / 5 + (run.sessions - run.sessions / 5) * height / half;

    return open ? open : 1;
}

static void serve_epoch(struct share *share, uint64_t epoch, struct bench_samples *samples)
{
    uint64_t open = open_sessions(epoch);
    uint64_t requests = run.requests * (epoch + 1) / run.epochs - run.requests * epoch / run.epochs;

    for (uint64_t i = open; i < run.sessions; i++)
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

    for (uint64_t epoch = 0; epoch < run.epochs; epoch++) {
        serve_epoch(&run.shares[(worker->index + epoch) % run.threads], epoch, worker->samples);
        pthread_barrier_wait(&run.epoch);
        if (worker->index == 0 && !worker->samples)
            bench_memory_add(&run.memory, bench_nanoseconds() - run.start, bench_resident_kib());
    }
}

int main(int argc, char **argv)
{
    struct bench_argument argument[] = {
        {"threads", "threads at once, and shares of sessions", 2, 1, BENCH_THREADS_MOST},
        {"sessions", "sessions of a share", 5000, 1, UINT64_C(1) << 32},
        {"requests", "requests for a share", 300000, 1, UINT64_C(1) << 40},
        {"epochs", "after each the shares move on to the next thread", 48, 1, BENCH_MOMENTS},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        BENCH_LATENCY_OPTION,
    };
    static struct bench_samples samples;
    struct worker *workers;
    uint64_t elapsed, checksum = 0;

    bench_arguments(argc, argv, "server", argument, 6);
    run.threads = argument[0].value;
    run.sessions = argument[1].value;
    run.requests = argument[2].value;
    run.epochs = argument[3].value;
    run.shares = bench_aligned_table(BENCH_CACHE_LINE, run.threads, sizeof(*run.shares));
    workers = bench_table(run.threads, sizeof(*workers));
    for (uint64_t i = 0; i < run.threads; i++) {
        workers[i].index = i;
        run.shares[i].random = bench_random_state(argument[4].value + i);
        run.shares[i].sessions = bench_table(run.sessions, sizeof(struct session));
    }
    pthread_barrier_init(&run.epoch, NULL, (unsigned)run.threads);

    run.start = bench_nanoseconds();
    elapsed = bench_run_threads(run.threads, work, workers, sizeof(*workers));
    for (uint64_t i = 0; i < run.threads; i++)
        checksum += run.shares[i].checksum;

    if (argument[5].value) {
        uint64_t requests = run.requests;

        run.requests = (argument[5].value + run.threads - 1) / run.threads;
        for (uint64_t i = 0; i < run.threads; i++)
            workers[i].samples = bench_table(1, sizeof(*workers[i].samples));
        bench_samples_begin(&samples);
        bench_run_threads(run.threads, work, workers, sizeof(*workers));
        bench_samples_end(&samples);
        for (uint64_t i = 0; i < run.threads; i++)
            bench_samples_add(&samples, workers[i].samples);
        run.requests = requests;
    }

    bench_report_begin("server", run.threads * run.requests, elapsed, checksum, argument, 6);
    bench_report_latency(&samples);
    bench_report_memory("rss", &run.memory);
    bench_report_end("server");
    return 0;
}
