/* SPDX-License-Identifier: MIT */
/* replay: a recorded program again (doc/recording.md): each thread asks malloc for what it asked then, in its own order.
 *
 * stresses: what the recorded program does, without the program
 * arguments: a script that `bench/trace script` has made of a recording; --gaps: waits as long between events as the
 *   program did; --latency: times each call; --only=N: just N operations of the first thread
 * operation: one call of malloc, calloc, aligned_alloc, realloc or free
 * wins: what is best for that program
 *
 * A thread waits for another one only where it gives up a block that the other has not allocated yet. Blocks are written
 * to as they were: a word in each cache line up to a page, in each page beyond, and of large blocks just those
 * pages that the recording names. A word of each block is checked when the block is given up, and is part of the checksum.
 *
 * Scripts are read a piece at a time, and no memory of the replay's own comes from malloc: table_kib says how much there is,
 * and server_peak_rss_kib is the peak without it. own_ns is what an operation costs the replay itself: the same script
 * again, without malloc and without the blocks. It is not subtracted from ns_per_op. */
#include "bench_latency.h"
#include "bench_threads.h"

#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAGIC = 0x31504b48, VERSION = 1, HEADER = 8, PIECE = 1024, LINE = 64 };
enum kind { MALLOC, CALLOC, ALIGNED, FREE, REALLOC, ADOPT, TOUCH, SPAWN, AT, KINDS };
enum { UNTOUCHED = 1, CHECKED = 2, GROWS = 4 };

struct operation {
    uint8_t kind;
    uint8_t align; /* log2 */
    uint16_t flags;
    uint32_t slot;
    uint64_t value; /* bytes; of ADOPT a slot; of TOUCH pages; of SPAWN a thread; of AT ns */
};

/* A thread's part of the script, and the piece of it that is in memory. */
struct stream {
    uint64_t next, end; /* operations */
    uint64_t checksum, calls;
    struct bench_samples *samples; /* of calls of malloc and free, with --latency; or NULL */
    bool dry;                      /* does all but calling malloc and touching blocks */
    struct operation piece[PIECE];
};

static int script;
static uint64_t threads, slot_count, operation_count, first_operation;
static _Atomic(void *) *slots;
static struct stream *streams;
static atomic_uint running;
static bool gaps;
static bool alone; /* the first thread, up to where it would wait for another */
static uint64_t began;

__attribute__((noreturn, format(printf, 1, 2))) static void refuse(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fputs("replay: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(BENCH_FAILED);
}

static void read_words(void *words, uint64_t count, uint64_t first)
{
    char *at = words;
    size_t left = count * sizeof(uint64_t);
    off_t offset = (off_t)(first * sizeof(uint64_t));

    while (left > 0) {
        ssize_t length = pread(script, at, left, offset);
        if (length <= 0)
            refuse("the script ends in the middle");
        at += length;
        left -= (size_t)length;
        offset += length;
    }
}

/* Memory of the replay's own, all of it touched, so that it does not come in the middle. */
static void *own_memory(size_t size)
{
    void *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (memory == MAP_FAILED)
        refuse("no room for tables of %zu bytes", size);
    return memory;
}

/* ── What a script must be ───────────────────────────────────────────────────────────────────────── */

static void check_operation(const struct operation *operation)
{
    bool good = operation->kind < KINDS && operation->align < 48;

    if (operation->kind == SPAWN)
        good = good && operation->value > 0 && operation->value < threads;
    else if (operation->kind != AT)
        good = good && operation->slot < slot_count;
    if (operation->kind == ADOPT)
        good = good && operation->value < slot_count;
    if (!good)
        refuse("an operation that cannot be: the script was not made by bench/trace");
}

/* Reads the whole once: header, sum, and that no operation leaves the tables. */
static void check_script(const char *path)
{
    static uint64_t words[2 * PIECE];
    uint64_t header[HEADER], sum = 0, place = 0;
    off_t size;

    script = open(path, O_RDONLY | O_CLOEXEC);
    if (script < 0)
        refuse("%s: %s", path, strerror(errno));
    size = lseek(script, 0, SEEK_END);
    if (size < (off_t)sizeof header || size % (off_t)sizeof *words != 0)
        refuse("%s is no script: `bench/trace script` makes one of a recording", path);
    read_words(header, HEADER, 0);
    if (header[0] != MAGIC)
        refuse("%s is no script: `bench/trace script` makes one of a recording", path);
    if ((uint32_t)header[1] != VERSION)
        refuse("%s has version %u of the format, not %d: make it anew", path, (uint32_t)header[1],
               VERSION);
    threads = header[1] >> 32;
    slot_count = header[2];
    operation_count = header[3];
    first_operation = HEADER + 2 * threads;
    uint64_t count = (uint64_t)size / sizeof *words;
    if (threads == 0 || threads > BENCH_THREADS_MOST || slot_count > UINT32_MAX ||
        operation_count > count || first_operation + 2 * operation_count != count)
        refuse("%s is not as long as it says, or has no thread or too many", path);
    for (uint64_t first = 0; first < count; first += 2 * PIECE) {
        uint64_t some = count - first < 2 * PIECE ? count - first : 2 * PIECE;
        read_words(words, some, first);
        for (uint64_t i = 0; i < some; i++, place++) {
            uint64_t word = place == 4 ? 0 : words[i];
            sum += (word ^ word >> 32) * (2 * place + 1);
            if (place >= first_operation && (place & 1) == 0)
                check_operation((const struct operation *)&words[i]);
        }
    }
    if (sum != header[4])
        refuse("%s is not what was written: its checksum is another", path);
}

static void open_streams(uint64_t only)
{
    uint64_t table[2];

    for (uint64_t i = 0; i < threads; i++) {
        read_words(table, 2, HEADER + 2 * i);
        if (table[0] > operation_count || table[1] > operation_count - table[0])
            refuse("a thread has operations beyond the end of the script");
        streams[i].next = table[0];
        streams[i].end = table[0] + (only && only < table[1] ? only : table[1]);
        streams[i].checksum = streams[i].calls = 0;
    }
}

/* ── Replaying ───────────────────────────────────────────────────────────────────────────────────── */

static uint64_t stamp_of(uint32_t slot)
{
    return (slot + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

/* All of a block is used, from its second cache line on. */
static void touch_rest(char *block, uint64_t size)
{
    for (uint64_t at = LINE; at < size; at += at < BENCH_PAGE ? LINE : BENCH_PAGE)
        block[at] = (char)at;
    if (size > LINE)
        block[size - 1] = 1;
}

static void touch_new(void *block, const struct operation *operation)
{
    uint64_t stamp = stamp_of(operation->slot);

    if (block == NULL)
        bench_out_of_memory(operation->value);
    memcpy(block, &stamp, operation->value < sizeof stamp ? operation->value : sizeof stamp);
    if ((operation->flags & UNTOUCHED) == 0)
        touch_rest(block, operation->value);
}

static uint64_t stamp_in(const void *block, unsigned flags)
{
    uint64_t stamp = 0;

    if (flags & CHECKED)
        memcpy(&stamp, block, sizeof stamp);
    return stamp;
}

/* Waits until another thread has put the block there: one load where it has. */
static void *wait_for(uint64_t slot)
{
    void *block;

    while (!(block = atomic_load_explicit(&slots[slot], memory_order_acquire)))
        sched_yield();
    return block;
}

static void wait_until(uint64_t nanoseconds)
{
    uint64_t due = began + nanoseconds;
    struct timespec then = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &then, NULL) == EINTR)
        ;
}

static void start_thread(uint64_t number);

static void do_call(struct stream *stream, const struct operation *operation)
{
    void *block = atomic_load_explicit(&slots[operation->slot], memory_order_relaxed);
    struct bench_samples *samples = stream->samples;
    uint64_t size = operation->value, start;

    stream->calls++;
    switch (operation->kind) {
    case FREE:
        stream->checksum += stamp_in(block, operation->flags);
        start = bench_sample_start(samples);
        free(block);
        bench_sample_end(samples, start);
        return;
    case REALLOC: {
        start = bench_sample_start(samples);
        block = realloc(block, size ? size : 1);
        bench_sample_end(samples, start);
        if (block == NULL)
            bench_out_of_memory(size);
        stream->checksum += stamp_in(block, operation->flags);
        uint64_t stamp = stamp_of(operation->slot);
        memcpy(block, &stamp, size < sizeof stamp ? size : sizeof stamp);
        if (operation->flags & GROWS)
            touch_rest(block, size);
        break;
    }
    case CALLOC:
        start = bench_sample_start(samples);
        block = calloc(1, size);
        bench_sample_end(samples, start);
        touch_new(block, operation);
        break;
    case ALIGNED: {
        size_t align = (size_t)1 << operation->align;
        start = bench_sample_start(samples);
        if (posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, size) != 0)
            block = NULL;
        bench_sample_end(samples, start);
        touch_new(block, operation);
        break;
    }
    default:
        start = bench_sample_start(samples);
        block = malloc(size);
        bench_sample_end(samples, start);
        touch_new(block, operation);
    }
    atomic_store_explicit(&slots[operation->slot], block, memory_order_release);
}

/* As do_call, but for malloc and the blocks. */
static void do_nothing(struct stream *stream, const struct operation *operation)
{
    void *block = atomic_load_explicit(&slots[operation->slot], memory_order_relaxed);

    stream->calls++;
    stream->checksum += (uint64_t)(uintptr_t)block;
    if (operation->kind != FREE)
        atomic_store_explicit(&slots[operation->slot], stream, memory_order_release);
}

BENCH_NOINLINE static void timed_loop(struct stream *stream)
{
    while (stream->next < stream->end) {
        uint64_t count = stream->end - stream->next < PIECE ? stream->end - stream->next : PIECE;
        read_words(stream->piece, 2 * count, first_operation + 2 * stream->next);
        stream->next += count;
        for (const struct operation *operation = stream->piece; operation < stream->piece + count;
             operation++)
            switch (operation->kind) {
            case ADOPT:
                if (alone &&
                    atomic_load_explicit(&slots[operation->value], memory_order_relaxed) == NULL)
                    return;
                atomic_store_explicit(&slots[operation->slot], wait_for(operation->value),
                                      memory_order_release);
                break;
            case TOUCH: {
                char *block = atomic_load_explicit(&slots[operation->slot], memory_order_relaxed);
                uint64_t page = operation->value >> 32, end = page + (uint32_t)operation->value;
                for (; page < end && !stream->dry; page++)
                    block[page * BENCH_PAGE + LINE] = 1;
                break;
            }
            case SPAWN:
                if (!stream->dry && !alone)
                    start_thread(operation->value);
                break;
            case AT:
                if (gaps)
                    wait_until(operation->value);
                break;
            default:
                if (stream->dry)
                    do_nothing(stream, operation);
                else
                    do_call(stream, operation);
            }
    }
}

static void *run_thread(void *stream)
{
    timed_loop(stream);
    atomic_fetch_sub_explicit(&running, 1, memory_order_release);
    return NULL;
}

static void start_thread(uint64_t number)
{
    pthread_t thread;

    atomic_fetch_add_explicit(&running, 1, memory_order_relaxed);
    bench_start_thread(&thread, run_thread, &streams[number]);
    pthread_detach(thread);
}

static uint64_t nanoseconds_of_replay(void)
{
    began = bench_nanoseconds();
    timed_loop(&streams[0]);
    while (atomic_load_explicit(&running, memory_order_acquire))
        sched_yield();
    return bench_nanoseconds() - began;
}

/* What all operations cost without malloc, one thread after the other. */
static uint64_t nanoseconds_of_nothing(void)
{
    uint64_t start;

    gaps = alone = false;
    open_streams(0);
    for (uint64_t i = 0; i < slot_count; i++)
        atomic_store_explicit(&slots[i], &slots, memory_order_relaxed);
    start = bench_nanoseconds();
    for (uint64_t i = 0; i < threads; i++) {
        streams[i].dry = true;
        timed_loop(&streams[i]);
    }
    return bench_nanoseconds() - start;
}

static uint64_t peak_kib(void)
{
    FILE *status = fopen("/proc/self/status", "re");
    char line[256];
    unsigned long kib = 0;

    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "VmHWM: %lu", &kib) == 1)
            break;
    if (status)
        fclose(status);
    return kib;
}

int main(int argc, char **argv)
{
    struct bench_argument options[] = {
        {"--gaps", "waits as long between events as the program did", 0, 0, 1},
        {"--latency", "times each call of malloc and free, which costs the throughput", 0, 0, 1},
        {"--only", "just so many operations, of the first thread", 0, 0, UINT32_MAX},
    };
    uint64_t calls = 0, checksum = 0;

    if (argc >= 2 && !bench_is_option(argv[1]) && strcmp(argv[1], "-h") != 0) {
        bench_arguments(argc - 1, argv + 1, "replay", options, 3);
    } else {
        bool help = argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"));
        FILE *out = help ? stdout : stderr;
        fputs("usage: replay SCRIPT [--gaps] [--latency] [--only=N]\n"
              "  SCRIPT       what `bench/trace script` has made of a recording\n",
              out);
        for (size_t i = 0; i < 3; i++)
            fprintf(out, "  %-12s %s\n", options[i].name, options[i].meaning);
        return help ? 0 : BENCH_USAGE;
    }
    check_script(argv[1]);
    gaps = options[0].value;
    size_t table = (slot_count + 1) * sizeof *slots, pieces = threads * sizeof *streams;
    slots = own_memory(table);
    streams = own_memory(pieces);
    struct bench_samples *samples = NULL;
    if (options[1].value) {
        samples = own_memory((threads + 1) * sizeof *samples);
        pieces += (threads + 1) * sizeof *samples;
        for (uint64_t i = 0; i < threads; i++)
            streams[i].samples = &samples[i + 1];
    }
    open_streams(options[2].value);

    alone = options[2].value > 0;

    if (samples)
        bench_samples_begin(samples);
    uint64_t elapsed = nanoseconds_of_replay();
    if (samples)
        bench_samples_end(samples);
    for (uint64_t i = 0; samples && i < threads; i++)
        bench_samples_add(samples, &samples[i + 1]);
    for (uint64_t i = 0; i < threads; i++) {
        calls += streams[i].calls;
        checksum += streams[i].checksum;
    }
    uint64_t peak = peak_kib(), own_kib = (table + pieces) / 1024;
    uint64_t own = nanoseconds_of_nothing();

    bench_report_begin("replay", calls, elapsed, checksum, options, 0);
    printf(" threads=%" PRIu64 " own_ns=%.3f table_kib=%" PRIu64 " server_peak_rss_kib=%" PRIu64,
           threads, (double)own / (double)(operation_count ? operation_count : 1), own_kib,
           peak > own_kib ? peak - own_kib : 0);
    if (samples)
        bench_report_latency(samples);
    bench_report_end("replay");
    return 0;
}
