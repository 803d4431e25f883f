/* SPDX-License-Identifier: MIT */
/* The recorder.
 *
 *   event ─ room before the next stop? ─ encode into the mapped chunk ─► done
 *     │ no
 *     └─► slow: look at the clock │ a new chunk │ a file for this thread │ the shared file
 *
 * No descriptor stays open: a file is created sparse, as large as it may become, and a window of it is mapped. mremap
 * moves the window. MADV_POPULATE_WRITE allocates the disk blocks of a chunk before it is written, or reports that the
 * disk is full, where a plain store would kill the process. So neither closed descriptors nor chroot nor dropped
 * privileges stop a recording that has begun; threads that cannot create a file any more write to the shared one.
 *
 * State that a forked child must not inherit lies in memory that the kernel clears there (MADV_WIPEONFORK): the child
 * finds no room and starts anew. A child of vfork shares the memory, and counts as its parent's thread until exec. */
#define _GNU_SOURCE
#include "core/record.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/record_format.h"
#include "core/syscall.h"
#include "core/text.h"

enum {
    WINDOW = 4 * HAK_RECORD_CHUNK, /* bytes of a file that are mapped */
    SMALL_PART = 1 << 20,          /* bytes: the least size of a file */
    STOP = 96, /* bytes of events between two looks at the clock: about thirty events */
    ROOM = 3 * HAK_RECORD_LONGEST, /* bytes that one stop may write: lost, gap, event */
    LEAST_GAP = 1 << 13,           /* ticks */
    LEAST_CHUNK = 2048,            /* bytes: no chunk begins in less room */
    LARGE = 256 << 10, /* bytes: of blocks from this size on, touched pages are recorded */
    BUCKETS = 512,
    BUCKET = 8,
    TOUCH_SHARE = 64, /* looking at pages takes at most 1/64 of the time */
    OS_POPULATE_WRITE = 23,
    OS_WIPE_ON_FORK = 18,
};
static const uint64_t PART = (uint64_t)1 << 30; /* bytes of a file, allocated or not */

/* The log of a thread. Zero after fork. Owned by its thread; the shared log by the holder of its lock.
 *
 * invariant: end == NULL, or chunk + 1 <= at, and [at, end + ROOM) lies in the chunk, which is mapped and has blocks */
struct record_log {
    uint8_t *at;  /* where the next event goes */
    uint8_t *end; /* the next stop; NULL: no chunk, or an event or a realloc is under way */
    uint8_t *stop;
    struct hak_record_chunk *chunk;
    uint64_t events;        /* of all chunks */
    uint8_t *chunk_end;     /* the last place for a stop */
    uint64_t ticks;         /* of the last gap */
    uint64_t lost;          /* events that could not be written */
    uint64_t chunk_events;  /* `events` when the chunk was begun */
    char *window;           /* the mapping */
    uint64_t window_offset; /* in the file */
    uint64_t next;          /* offset of the next chunk */
    uint64_t filled;        /* offset up to which disk blocks are allocated */
    uint64_t size;          /* of the file */
    uint64_t number;        /* of the next chunk */
    uint32_t thread;
    uint32_t part;
    uint32_t current; /* shared: the thread of the last event */
    bool shared;
    struct record_log *free; /* the next log without a thread */
    struct hak_record_coder coder;
};

struct record_large {
    uint64_t address;
    uint64_t size;
};

enum record_state { UNKNOWN, RECORDING, OFF };

/* The recording of a process. Zero after fork. */
static struct record_process {
    uint32_t lock; /* for all fields below, and for the shared log */
    uint32_t state;
    uint32_t holder; /* 1 + the thread that holds the lock */
    uint32_t id;
    uint32_t parent;
    uint32_t image;
    uint32_t threads; /* numbers given to threads so far */
    uint64_t start_ns;
    uint64_t next_touch; /* ticks */
    struct record_log *free;
    struct record_log shared;
    struct record_large large[BUCKETS][BUCKET];
} * process;

/* Defined by the library that is preloaded to record any malloc; if both are there, that library records. */
extern const char hak_record_is_preloaded[] __attribute__((weak, visibility("default")));

/* The log of threads without one: no room, so that each event takes the slow path. Never written. */
static struct record_log none;

static __thread struct record_log *mine __attribute__((tls_model("initial-exec"))) = &none;
static __thread uint32_t my_number __attribute__((tls_model("initial-exec"))); /* 1 + thread */
static __thread uint32_t my_process __attribute__((tls_model("initial-exec")));
static __thread char *my_window
    __attribute__((tls_model("initial-exec"))); /* not zero after fork */
static __thread enum { OUTSIDE, INSIDE, IN_LIBC } inside __attribute__((tls_model("initial-exec")));
static __thread uint64_t my_shared,
    my_shared_last __attribute__((tls_model("initial-exec"))); /* events, address */
static __thread const void *my_frame
    __attribute__((tls_model("initial-exec"))); /* of a realloc under way */

/* For each counter, the thread of its last event (1 + thread, in the low bits) and the turn of that event (above); 0
 * before the first. NULL while the process has one thread. The second thread sets it before its first event, so every
 * thread that receives a block from it sees the counters. Zero after fork. */
static uint64_t *counters;
enum { TURN_SHIFT = 24 };

static uint8_t large_filter
    [1024]; /* 1: a large block may have been allocated at such an address, in this process or an ancestor */

static char folder[4096]; /* an absolute path */
static bool has_folder, has_key, is_said;
static pthread_key_t key;
static struct stat first_stderr;

/* ── System calls ────────────────────────────────────────────────────────────────────────────────
 * Made directly, so that no interposed version of them runs, and errno stays. */

/* Whether what a call returned is a negative error number. */
static inline bool record_failed(long result)
{
    return result < 0 && result >= -4095;
}

static uint64_t record_clock_of(clockid_t clock)
{
    struct timespec now = {0, 0};

    hak_syscall(SYS_clock_gettime, clock, (long)&now, 0, 0, 0, 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *record_map_wiped(size_t size)
{
    long base = hak_syscall(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (record_failed(base))
        return NULL;
    if (record_failed(hak_syscall(SYS_madvise, base, (long)size, OS_WIPE_ON_FORK, 0, 0, 0))) {
        hak_syscall(SYS_munmap, base, (long)size, 0, 0, 0, 0); /* Linux before 4.14 */
        return NULL;
    }
    return (void *)base;
}

static void record_to_stderr(const char *text, size_t length, void *unused)
{
    (void)unused;
    hak_syscall(SYS_write, STDERR_FILENO, (long)text, (long)length, 0, 0, 0);
}

static bool record_is_same_stderr(void)
{
    struct stat now;
    int saved = errno;
    bool same = fstat(STDERR_FILENO, &now) == 0 && now.st_dev == first_stderr.st_dev &&
                now.st_ino == first_stderr.st_ino;

    errno = saved;
    return same;
}

static void record_add_error(struct hak_text *text, int error)
{
    static const struct {
        int error;
        const char *words;
    } known[] = {
        {ENOSPC, "no space left"},
        {EDQUOT, "the quota is used up"},
        {EFBIG, "the limit on the size of files (ulimit -f) is too low"},
        {EACCES, "permission denied"},
        {EPERM, "not permitted"},
        {EROFS, "read-only"},
        {ENOENT, "there is no such folder (any more: another root?)"},
        {ENOTDIR, "it is no folder"},
        {EMFILE, "too many open files"},
        {ENOMEM, "no memory"},
        {EEXIST, "a file of this name exists"},
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].error == error) {
            hak_text_add(text, known[i].words);
            return;
        }
    hak_text_add(text, "error ");
    hak_text_number(text, (uint64_t)error, 0);
}

/* Prints once in a process, and never to a file that the program has opened in stderr's place. */
static hak_cold void record_say(const char *what, long error)
{
    struct hak_text text = {.write = record_to_stderr};

    if (!record_is_same_stderr() || __atomic_exchange_n(&is_said, true, __ATOMIC_RELAXED))
        return;
    hak_text_add(&text, "hakmem: record: ");
    hak_text_add(&text, folder);
    hak_text_add(&text, ": ");
    hak_text_add(&text, what);
    if (error) {
        hak_text_add(&text, ": ");
        record_add_error(&text, (int)-error);
    }
    hak_text_add(&text, "\n");
    hak_text_end(&text);
}

static void record_lock(uint32_t holder)
{
    while (__atomic_exchange_n(&process->lock, 1, __ATOMIC_ACQUIRE))
        hak_syscall(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
    __atomic_store_n(&process->holder, holder, __ATOMIC_RELAXED);
}

/* For work that is not worth waiting for, and for signal handlers that may have interrupted the holder. */
static bool record_try_lock(uint32_t holder)
{
    if (__atomic_exchange_n(&process->lock, 1, __ATOMIC_ACQUIRE))
        return false;
    __atomic_store_n(&process->holder, holder, __ATOMIC_RELAXED);
    return true;
}

static void record_unlock(void)
{
    __atomic_store_n(&process->holder, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&process->lock, 0, __ATOMIC_RELEASE);
}

/* ── Files ───────────────────────────────────────────────────────────────────────────────────────── */

struct record_path {
    char text[sizeof folder + 64];
    size_t length;
};

static void record_path_write(const char *text, size_t length, void *context)
{
    struct record_path *path = context;

    if (path->length + length < sizeof path->text) {
        memcpy(path->text + path->length, text, length);
        path->length += length;
        path->text[path->length] = '\0';
    }
}

/* FOLDER/PROCESS-IMAGE-THREAD[-PART].trace; `shared` in the thread's place. */
static void record_name_file(struct record_path *path, const struct record_log *log)
{
    struct hak_text text = {.write = record_path_write, .context = path};

    path->length = 0;
    hak_text_add(&text, folder);
    hak_text_add(&text, "/");
    hak_text_number(&text, process->id, 0);
    hak_text_add(&text, "-");
    hak_text_number(&text, process->image, 0);
    hak_text_add(&text, "-");
    if (log->shared)
        hak_text_add(&text, "shared");
    else
        hak_text_number(&text, log->thread, 0);
    if (log->part) {
        hak_text_add(&text, "-");
        hak_text_number(&text, log->part, 0);
    }
    hak_text_add(&text, ".trace");
    hak_text_end(&text);
}

/* Sets the largest size that the file may have: beyond the limit the kernel would send SIGXFSZ. */
static long record_size_file(long file, uint64_t *size)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    long error = -EFBIG;

    hak_syscall(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, (long)&limit, 0, 0);
    for (uint64_t want = PART; want >= SMALL_PART / 16; want /= 2) {
        if (limit.rlim_cur != RLIM_INFINITY && want > limit.rlim_cur)
            continue;
        error = hak_syscall(SYS_ftruncate, file, (long)want, 0, 0, 0, 0);
        if (!record_failed(error)) {
            *size = want;
            return 0;
        }
    }
    return error;
}

/* Allocates disk blocks for the file up to an offset. Returns 0 or a negative error number. */
static long record_fill(struct record_log *log, uint64_t to)
{
    struct record_path path;
    uint64_t from = log->filled;
    char *record_start = log->window + (from - log->window_offset);
    long error =
        hak_syscall(SYS_madvise, (long)record_start, (long)(to - from), OS_POPULATE_WRITE, 0, 0, 0);

    if (error == -EINVAL) { /* Linux before 5.14 */
        record_name_file(&path, log);
        long file = hak_syscall(SYS_openat, AT_FDCWD, (long)path.text, O_RDWR | O_CLOEXEC, 0, 0, 0);
        if (record_failed(file))
            return file;
        error = hak_syscall(SYS_fallocate, file, 0, (long)from, (long)(to - from), 0, 0);
        hak_syscall(SYS_close, file, 0, 0, 0, 0, 0);
    }
    if (record_failed(error))
        return error == -EFAULT ? -ENOSPC : error;
    log->filled = to;
    return 0;
}

static long record_move_window(struct record_log *log)
{
    long moved =
        hak_syscall(SYS_mremap, (long)log->window, WINDOW, 2 * WINDOW, MREMAP_MAYMOVE, 0, 0);

    if (record_failed(moved))
        return moved;
    hak_syscall(SYS_munmap, moved, WINDOW, 0, 0, 0, 0);
    log->window = (char *)moved + WINDOW;
    log->window_offset += WINDOW;
    if (!log->shared)
        my_window = log->window;
    return 0;
}

static void record_write_header(struct record_log *log, uint32_t flags)
{
    struct hak_record_chunk *chunk = (void *)log->window;
    struct hak_record_thread thread = {
        .version = HAK_RECORD_VERSION,
        .flags = flags | (log->shared ? HAK_RECORD_SHARED : 0) |
                 (process->parent ? HAK_RECORD_FORKED : 0) |
                 (enabled(CONFIG_RECORD) ? HAK_RECORD_BUILT_IN : 0),
        .process = process->id,
        .parent = process->parent,
        .image = process->image,
        .part = log->part,
        .page = (uint32_t)getauxval(AT_PAGESZ),
        .dictionary = HAK_RECORD_DICTIONARY,
        .start_ns = process->start_ns,
    };

    *chunk = (struct hak_record_chunk){
        .kind = HAK_RECORD_THREAD,
        .size = sizeof *chunk + sizeof thread,
        .used = sizeof thread,
        .thread = log->thread,
        .begin_ns = record_clock_of(CLOCK_MONOTONIC),
    };
    memcpy(chunk + 1, &thread, sizeof thread);
    chunk->magic = HAK_RECORD_MAGIC;
    chunk->checksum = hak_record_checksum(chunk);
}

/* Creates and maps a file, with its header. On failure returns a negative error number and leaves no file. */
static long record_make_file(struct record_log *log)
{
    struct record_path path;
    long base = -ENAMETOOLONG;

    record_name_file(&path, log);
    long file = hak_syscall(SYS_openat, AT_FDCWD, (long)path.text,
                            O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, 0, 0);
    if (record_failed(file))
        return file;
    long error = record_size_file(file, &log->size);
    if (!record_failed(error)) {
        base = hak_syscall(SYS_mmap, 0, WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        error = record_failed(base) ? base : 0;
    }
    hak_syscall(SYS_close, file, 0, 0, 0, 0, 0);
    if (!record_failed(error)) {
        log->window = (char *)base;
        log->window_offset = log->filled = 0;
        error = record_fill(log, HAK_RECORD_FIRST);
    }
    if (record_failed(error)) {
        if (!record_failed(base))
            hak_syscall(SYS_munmap, base, WINDOW, 0, 0, 0, 0);
        hak_syscall(SYS_unlinkat, AT_FDCWD, (long)path.text, 0, 0, 0, 0);
        return error;
    }
    log->next = sizeof(struct hak_record_chunk) + sizeof(struct hak_record_thread);
    log->number = 1;
    if (!log->shared)
        my_window = log->window;
    record_write_header(log, 0);
    return 0;
}

/* Cuts off the part that was never written. After chroot or dropped privileges that fails, and the part stays sparse. */
static void record_cut_file(struct record_log *log, uint64_t size)
{
    struct record_path path;

    record_name_file(&path, log);
    if (!record_failed(hak_syscall(SYS_truncate, (long)path.text, (long)size, 0, 0, 0, 0)))
        log->size = size;
}

/* ── Chunks ──────────────────────────────────────────────────────────────────────────────────────── */

static uint64_t record_chunk_offset(const struct record_log *log)
{
    return log->window_offset + (uint64_t)((char *)log->chunk - log->window);
}

/* The end of the piece of a file in which a chunk at this offset must lie. */
static uint64_t record_piece_end(uint64_t offset)
{
    return offset < HAK_RECORD_FIRST ? HAK_RECORD_FIRST
                                     : (offset / HAK_RECORD_CHUNK + 1) * HAK_RECORD_CHUNK;
}

static void record_close_chunk(struct record_log *log, uint16_t flags)
{
    struct hak_record_chunk *chunk = log->chunk;
    uint64_t offset = record_chunk_offset(log), piece = record_piece_end(offset);
    uint64_t size = (sizeof *chunk + chunk->used + 31) / 32 * 32;

    log->at = log->end = NULL;
    log->chunk = NULL;
    if (offset + size + LEAST_CHUNK > piece)
        size = piece - offset;
    chunk->end_ns = record_clock_of(CLOCK_MONOTONIC);
    chunk->end_ticks = hak_processor_ticks();
    chunk->events = (uint32_t)(log->events - log->chunk_events);
    chunk->flags = flags;
    chunk->size = (uint32_t)size;
    log->next = offset + size;
    chunk->checksum = hak_record_checksum(chunk);
}

/* Writes a header at log->next. */
static long record_begin_chunk(struct record_log *log)
{
    uint64_t piece = record_piece_end(log->next), base = log->coder.last;
    long error = 0;

    if (piece > log->size) {
        hak_syscall(SYS_munmap, (long)log->window, WINDOW, 0, 0, 0, 0);
        log->part++;
        error = record_make_file(log);
        piece = HAK_RECORD_FIRST;
    }
    if (!record_failed(error) && log->next >= log->window_offset + WINDOW)
        error = record_move_window(log);
    if (!record_failed(error) && piece > log->filled)
        error = record_fill(log, piece);
    if (record_failed(error))
        return error;

    struct hak_record_chunk *chunk = (void *)(log->window + (log->next - log->window_offset));
    *chunk = (struct hak_record_chunk){
        .kind = HAK_RECORD_EVENTS,
        .size = (uint32_t)(piece - log->next),
        .thread = log->thread,
        .number = log->number++,
        .base = base,
        .begin_ns = record_clock_of(CLOCK_MONOTONIC),
        .begin_ticks = hak_processor_ticks(),
    };
    hak_record_begin(&log->coder, base);
    log->ticks = chunk->begin_ticks;
    log->chunk_events = log->events;
    log->chunk = chunk;
    log->at = (uint8_t *)(chunk + 1);
    log->chunk_end = (uint8_t *)log->window + (piece - log->window_offset) - ROOM;
    log->current = UINT32_MAX;
    __atomic_store_n(&chunk->magic, HAK_RECORD_MAGIC, __ATOMIC_RELEASE);
    return 0;
}

/* Takes over the counter of an address from another thread. While a block is the caller's, no other thread has an
 * event at its address, so turns order the events of one address; addresses that share the counter take turns in any
 * order. */
static hak_cold uint8_t *record_take_turn(uint64_t *counter, uint8_t *at)
{
    uint64_t seen = __atomic_load_n(counter, __ATOMIC_RELAXED), mine_now;

    do
        mine_now = ((seen >> TURN_SHIFT) + 1) << TURN_SHIFT | my_number;
    while (!__atomic_compare_exchange_n(counter, &seen, mine_now, true, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
    return hak_record_put_number(at, HAK_RECORD_TURN, mine_now >> TURN_SHIFT);
}

static inline uint8_t *record_note_turn(uint8_t *at, uint64_t address)
{
    uint64_t *all = __atomic_load_n(&counters, __ATOMIC_RELAXED);

    if (likely(all == NULL))
        return at;
    uint64_t *counter = &all[hak_record_counter(address)];
    uint32_t last = (uint32_t)__atomic_load_n(counter, __ATOMIC_RELAXED) & ((1u << TURN_SHIFT) - 1);
    return likely(last == my_number) ? at : record_take_turn(counter, at);
}

/* Publishes one event: from now on a reader finds it even after kill -9. */
static inline void record_advance(struct record_log *log, uint8_t *at)
{
    log->at = at;
    log->events++;
    __atomic_store_n(&log->chunk->used, (uint32_t)(at - (uint8_t *)(log->chunk + 1)),
                     __ATOMIC_RELEASE);
}

/* Records the time if enough has passed, and the number of lost events. */
static void record_look_at_clock(struct record_log *log)
{
    uint64_t now = hak_processor_ticks();

    if (log->lost) {
        record_advance(log, hak_record_put_number(log->at, HAK_RECORD_LOST, log->lost));
        log->lost = 0;
    }
    if (now - log->ticks >= LEAST_GAP && (int64_t)(now - log->ticks) > 0) {
        uint64_t gap = (now - log->ticks) >> HAK_RECORD_TICK_SHIFT;
        record_advance(log, hak_record_put_number(log->at, HAK_RECORD_GAP, gap));
        log->ticks += gap << HAK_RECORD_TICK_SHIFT;
    }
}

static uint8_t *record_next_stop(const struct record_log *log)
{
    return log->at + STOP < log->chunk_end ? log->at + STOP : log->chunk_end;
}

/* ── Threads and processes ───────────────────────────────────────────────────────────────────────── */

static hak_cold void record_stop(const char *what, long error)
{
    __atomic_store_n(&process->state, OFF, __ATOMIC_RELAXED);
    record_say(what, error);
}

static void record_drop_log(struct record_log *log)
{
    hak_syscall(SYS_munmap, (long)log->window, WINDOW, 0, 0, 0, 0);
    my_window = NULL;
    memset(log, 0, offsetof(struct record_log, coder));
    record_lock(my_number);
    log->free = process->free;
    process->free = log;
    record_unlock();
}

static void record_end_log(struct record_log *log)
{
    mine = &none; /* later events go to the shared file */
    log->end = NULL;
    if (log->chunk) {
        record_look_at_clock(log);
        record_close_chunk(log, HAK_RECORD_LAST);
    }
    record_cut_file(log, log->next);
    record_drop_log(log);
}

/* The thread ends. Other destructors may still free blocks, so the log ends in the last round but one. */
static void record_thread_ends(void *rounds)
{
    int was = inside;

    inside = IN_LIBC;
    if ((uintptr_t)rounds > 1)
        pthread_setspecific(key, (void *)((uintptr_t)rounds - 1));
    else if (process && my_process == process->id && mine != &none)
        record_end_log(mine);
    inside = was;
}

bool hak_record_read(const char *name)
{
    struct record_path path = {.length = 0};
    struct hak_text text = {.write = record_path_write, .context = &path};

    if (has_folder || name == NULL || *name == '\0' || getauxval(AT_SECURE) != 0)
        return has_folder;
    if (*name != '/') {
        long length = hak_syscall(SYS_getcwd, (long)folder, sizeof folder, 0, 0, 0, 0);
        if (record_failed(length))
            return false;
        hak_text_add(&text, folder);
        hak_text_add(&text, "/");
    }
    hak_text_add(&text, name);
    hak_text_end(&text);
    if (path.length == 0 || path.length >= sizeof folder)
        return false;
    memcpy(folder, path.text, path.length + 1);
    has_folder = true;
    return true;
}

/* Claims a name for this process by creating its shared file: the first name that is free. */
static long record_claim(void)
{
    long error;

    process->id = (uint32_t)hak_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0);
    process->start_ns = record_clock_of(CLOCK_REALTIME);
    process->shared.shared = true;
    process->shared.thread = UINT32_MAX;
    hak_syscall(SYS_mkdirat, AT_FDCWD, (long)folder, 0777, 0, 0, 0);
    do
        error = record_make_file(&process->shared);
    while (error == -EEXIST && ++process->image < 1 << 20);
    return error;
}

/* pre: the lock is held, and this process has not recorded yet. */
static void record_start(void)
{
    static uint32_t before;

    if ((enabled(CONFIG_RECORD) && hak_record_is_preloaded) ||
        (!has_folder && !hak_record_read(getenv("HAKMEM_RECORD")))) {
        process->state = OFF;
        return;
    }
    if (before == 0) {
        int saved = errno;
        fstat(STDERR_FILENO, &first_stderr);
        errno = saved;
    }
    process->parent = before;
    long error = record_claim();
    before = process->id;
    if (record_failed(error))
        record_stop("nothing is recorded", error);
    else
        process->state = RECORDING;
    if (!has_key)
        has_key = pthread_key_create(&key, record_thread_ends) == 0;
}

/* Whether events are to be written. */
static bool record_is_recording(void)
{
    if (unlikely(process == NULL)) {
        struct record_process *fresh =
            environ ? record_map_wiped(sizeof *fresh) : NULL; /* libc is not initialised yet */
        struct record_process *expected = NULL;
        if (fresh == NULL)
            return false;
        if (!__atomic_compare_exchange_n(&process, &expected, fresh, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_ACQUIRE))
            hak_syscall(SYS_munmap, (long)fresh, sizeof *fresh, 0, 0, 0, 0);
    }
    if (unlikely(__atomic_load_n(&process->state, __ATOMIC_ACQUIRE) == UNKNOWN)) {
        record_lock(0);
        if (process->state == UNKNOWN)
            record_start();
        record_unlock();
    }
    return __atomic_load_n(&process->state, __ATOMIC_ACQUIRE) == RECORDING;
}

/* Opens a file for the calling thread, which has none in this process. */
static void record_open_log(void)
{
    record_lock(my_number);
    struct record_log *log = process->free;
    if (log)
        process->free = log->free;
    my_number = ++process->threads;
    my_process = process->id;
    if (my_number == 1)
        counters = NULL; /* in a forked child: the parent's counters */
    else if (counters == NULL &&
             (counters = record_map_wiped(HAK_RECORD_COUNTERS * sizeof *counters)) == NULL)
        process->state = OFF;
    record_unlock();
    if (my_window)
        hak_syscall(SYS_munmap, (long)my_window, WINDOW, 0, 0, 0, 0); /* the parent's */
    my_window = NULL;
    if (log == NULL && (log = record_map_wiped(sizeof *log)) == NULL)
        return;
    log->free = NULL;
    log->thread = my_number - 1;
    long error = record_make_file(log);
    if (record_failed(error)) {
        if (error == -ENOSPC || error == -EDQUOT)
            record_stop("the recording ends here, the program goes on", error);
        else
            record_say("threads that start now share a file", error);
        record_lock(my_number);
        log->free = process->free;
        process->free = log;
        record_unlock();
        return;
    }
    mine = log;
    if (has_key) {
        int saved = errno;
        inside = IN_LIBC;
        pthread_setspecific(key, (void *)3);
        inside = INSIDE;
        errno = saved;
    }
}

/* ── Large blocks ────────────────────────────────────────────────────────────────────────────────── */

static uint32_t record_hash_page(uint64_t address)
{
    return (uint32_t)((address >> 12) * 0x9e3779b97f4a7c15u >> 54);
}

_Static_assert(sizeof large_filter == 1 << (64 - 54) && BUCKETS <= 1 << (64 - 54), "hash_page");

/* Counts the pages of a block that are in memory or swapped, as runs of untouched and touched pages. The last run takes
 * all pages beyond HAK_RECORD_RUNS. Returns the number of runs; 0: the kernel does not tell. */
static unsigned record_touched_pages(const struct record_large *large,
                                     uint32_t runs[2 * HAK_RECORD_RUNS])
{
    uint64_t entries[256], page = getauxval(AT_PAGESZ), from = large->address / page;
    uint64_t pages = (large->address + large->size + page - 1) / page - from;
    unsigned count = 0;
    bool was_touched = true;
    long file = hak_syscall(SYS_openat, AT_FDCWD, (long)"/proc/self/pagemap", O_RDONLY | O_CLOEXEC,
                            0, 0, 0);

    if (record_failed(file))
        return 0;
    for (uint64_t done = 0; done < pages;) {
        uint64_t want = pages - done < 256 ? pages - done : 256;
        long got = hak_syscall(SYS_pread64, file, (long)entries, (long)(want * 8),
                               (long)((from + done) * 8), 0, 0);
        if (got < 8) {
            count = 0;
            break;
        }
        for (long i = 0; i < got / 8; i++) {
            bool touched = entries[i] >> 62 != 0; /* bits 63 present, 62 swapped */
            if (!touched && was_touched && count < HAK_RECORD_RUNS) {
                runs[2 * count] = runs[2 * count + 1] = 0;
                count++;
            } else if (count == 0) {
                runs[0] = runs[1] = 0;
                count = 1;
            }
            was_touched = touched;
            runs[2 * (count - 1) + touched]++;
        }
        done += (uint64_t)(got / 8);
    }
    hak_syscall(SYS_close, file, 0, 0, 0, 0, 0);
    return count;
}

static void record_enter_large(uint64_t address, uint64_t size)
{
    if (!record_try_lock(my_number))
        return;
    struct record_large *bucket = process->large[record_hash_page(address) % BUCKETS];
    for (int i = 0; i < BUCKET; i++)
        if (bucket[i].address == 0 || bucket[i].address == address) {
            bucket[i] = (struct record_large){address, size};
            __atomic_store_n(&large_filter[record_hash_page(address)], 1, __ATOMIC_RELAXED);
            break;
        }
    record_unlock();
}

/* Takes a block out of the table. The address is 0 if it was not there, or if the lock is taken. */
static struct record_large record_leave_large(uint64_t address)
{
    struct record_large found = {0, 0};

    if (!record_try_lock(my_number))
        return found;
    struct record_large *bucket = process->large[record_hash_page(address) % BUCKETS];
    for (int i = 0; i < BUCKET; i++)
        if (bucket[i].address == address) {
            found = bucket[i];
            bucket[i].address = 0;
        }
    record_unlock();
    return found;
}

/* ── Events ──────────────────────────────────────────────────────────────────────────────────────── */

struct record_event {
    enum hak_record_operation operation;
    unsigned align, count; /* of ALIGNED; of TOUCHED */
    uint64_t address, size;
    const uint32_t *runs;
};

static void record_write_event(struct record_log *log, const struct record_event *event)
{
    uint8_t *at = log->at;

    if (event->address && event->operation != HAK_RECORD_TOUCHED)
        at = record_note_turn(at, event->address);
    switch (event->operation) {
    case HAK_RECORD_MALLOC:
        at = hak_record_put_malloc(&log->coder, at, event->address, event->size);
        break;
    case HAK_RECORD_CALLOC:
    case HAK_RECORD_ALIGNED:
    case HAK_RECORD_TAKE:
        at = hak_record_put_block(&log->coder, at, event->operation, event->address, event->size,
                                  event->align);
        break;
    case HAK_RECORD_FREE:
        at = hak_record_put_free(&log->coder, at, event->address);
        break;
    case HAK_RECORD_GIVE:
        at = hak_record_put_give(&log->coder, at, event->address);
        break;
    case HAK_RECORD_KEEP:
        /* The GIVE may lie in an earlier chunk, or be followed by another thread's in the shared file. */
        at = log->coder.given == event->address
                 ? hak_record_put_keep(&log->coder, at, event->size)
                 : hak_record_put_block(&log->coder, at, HAK_RECORD_TAKE, event->address,
                                        event->size, 0);
        break;
    case HAK_RECORD_RETRACT:
        at = hak_record_put_retract(&log->coder, at, event->address, event->size);
        break;
    case HAK_RECORD_REFUSED:
        at = hak_record_put_refused(at, event->align, event->size);
        break;
    case HAK_RECORD_TOUCHED:
        at = hak_record_put_touched(&log->coder, at, event->address, event->runs, event->count);
        break;
    default:
        return;
    }
    record_advance(log, at);
}

/* Makes room for an event and the records before it. false: there is none, and the recording has ended. */
static bool record_make_room(struct record_log *log)
{
    long error = 0;

    if (log->chunk && log->at >= log->stop) {
        record_look_at_clock(log);
        if (log->at >= log->chunk_end)
            record_close_chunk(log, 0);
        else
            log->stop = record_next_stop(log);
    }
    if (log->chunk == NULL) {
        if (record_failed(error = record_begin_chunk(log))) {
            record_stop("the recording ends here, the program goes on", error);
            return false;
        }
        log->stop = record_next_stop(log);
    }
    return true;
}

static void record_write_shared(const struct record_event *event)
{
    struct record_log *log = &process->shared;

    if (__atomic_load_n(&process->holder, __ATOMIC_RELAXED) == my_number) {
        __atomic_add_fetch(&log->lost, 1,
                           __ATOMIC_RELAXED); /* a signal handler has interrupted this function */
        return;
    }
    record_lock(my_number);
    if (process->state == RECORDING && record_make_room(log)) {
        if (log->current != my_number - 1) {
            log->current = my_number - 1;
            record_advance(log, hak_record_put_number(log->at, HAK_RECORD_SWITCH, log->current));
        }
        record_write_event(log, event);
        my_shared++;
        my_shared_last = log->coder.last;
    }
    record_unlock();
}

static void record_look_at_pages(const struct record_large *large)
{
    uint32_t runs[2 * HAK_RECORD_RUNS];
    uint64_t begin = hak_processor_ticks();

    if (large->address == 0 || begin < __atomic_load_n(&process->next_touch, __ATOMIC_RELAXED))
        return;
    unsigned count = record_touched_pages(large, runs);
    uint64_t end = hak_processor_ticks();
    __atomic_store_n(&process->next_touch, end + TOUCH_SHARE * (end - begin), __ATOMIC_RELAXED);
    if (count) {
        const struct record_event event = {.operation = HAK_RECORD_TOUCHED,
                                           .address = large->address,
                                           .count = count,
                                           .runs = runs};
        struct record_log *log = mine;
        if (log == &none) {
            record_write_shared(&event);
        } else if (record_make_room(log)) {
            record_write_event(log, &event);
        }
    }
}

/* Counts an event that cannot be written because a signal handler has interrupted the recorder. */
static void record_lose(struct record_log *log)
{
    if (log == &none && process)
        log = &process->shared;
    if (log != &none)
        __atomic_add_fetch(&log->lost, 1, __ATOMIC_RELAXED);
}

/* Whether an event is being written to the calling thread's log. */
static bool record_is_busy(const struct record_log *log)
{
    return log->chunk && log->end == NULL && my_frame == NULL;
}

static void record_note_large(const struct record_event *event)
{
    switch (event->operation) {
    case HAK_RECORD_FREE:
    case HAK_RECORD_GIVE:
        if (large_filter[record_hash_page(event->address)]) {
            struct record_large large = record_leave_large(event->address);
            if (event->operation == HAK_RECORD_FREE)
                record_look_at_pages(&large);
        }
        break;
    case HAK_RECORD_REFUSED:
    case HAK_RECORD_RETRACT:
        break;
    default:
        if (event->size >= LARGE)
            record_enter_large(event->address, event->size);
    }
}

static void __attribute__((noinline)) record_slow(const struct record_event *event)
{
    struct record_log *log = mine;

    if (inside != OUTSIDE || record_is_busy(log)) {
        if (inside != IN_LIBC)
            record_lose(log);
        return;
    }
    if (my_frame) {
        /* Deeper in the stack: a part of the realloc under way. Otherwise a longjmp has left that realloc. */
        if ((const char *)__builtin_frame_address(0) < (const char *)my_frame)
            return;
        my_frame = NULL;
    }
    inside = INSIDE;
    if (!record_is_recording()) {
        if (log->chunk)
            record_close_chunk(log, HAK_RECORD_LAST);
        inside = OUTSIDE;
        return;
    }
    if (my_process != process->id) {
        mine = &none;
        record_open_log();
        log = mine;
    }
    if (process->state == RECORDING) {
        record_note_large(event);
        if (log == &none) {
            record_write_shared(event);
        } else if (record_make_room(log)) {
            log->end = NULL;
            record_write_event(log, event);
            log->end = log->stop;
        }
    }
    inside = OUTSIDE;
}

void hak_record_write_malloc(const void *block, size_t size)
{
    struct record_log *log = mine;
    uint8_t *at = log->at, *end = log->end;

    if (unlikely(at >= end || block == NULL || size >= LARGE)) {
        record_slow(
            &(struct record_event){.operation = block ? HAK_RECORD_MALLOC : HAK_RECORD_REFUSED,
                                   .address = (uintptr_t)block,
                                   .size = size});
        return;
    }
    log->end = NULL;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    at = record_note_turn(at, (uintptr_t)block);
    record_advance(log, hak_record_put_malloc(&log->coder, at, (uintptr_t)block, size));
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    log->end = end;
}

void hak_record_write_free(const void *block)
{
    struct record_log *log = mine;
    uint8_t *at = log->at, *end = log->end;

    if (unlikely(block == NULL))
        return;
    if (unlikely(at >= end || large_filter[record_hash_page((uintptr_t)block)])) {
        record_slow(
            &(struct record_event){.operation = HAK_RECORD_FREE, .address = (uintptr_t)block});
        return;
    }
    log->end = NULL;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    at = record_note_turn(at, (uintptr_t)block);
    record_advance(log, hak_record_put_free(&log->coder, at, (uintptr_t)block));
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    log->end = end;
}

static void record_write_block(enum hak_record_operation operation, const void *block, size_t size,
                               size_t align)
{
    record_slow(&(struct record_event){.operation = block ? operation : HAK_RECORD_REFUSED,
                                       .address = (uintptr_t)block,
                                       .size = size,
                                       .align = align > 1 ? (unsigned)__builtin_ctzll(align) : 0});
}

void hak_record_write_calloc(const void *block, size_t size)
{
    record_write_block(HAK_RECORD_CALLOC, block, size, 1);
}

void hak_record_write_aligned(const void *block, size_t size, size_t align)
{
    record_write_block(HAK_RECORD_ALIGNED, block, size, align);
}

uint64_t hak_record_count(void)
{
    return mine == &none ? my_shared : mine->events;
}

void hak_record_write_once(int operation, const void *block, size_t size, size_t align,
                           uint64_t before)
{
    uint64_t last = mine == &none ? my_shared_last : mine->coder.last;

    if (block == NULL || before == hak_record_count() || last != ((uintptr_t)block & ~(uintptr_t)7))
        record_write_block((enum hak_record_operation)operation, block, size, align);
}

const void *hak_record_before(const void *frame)
{
    if (inside != OUTSIDE || my_frame || record_is_busy(mine))
        return NULL;
    my_frame = frame;
    if (mine->chunk)
        mine->end = NULL;
    return frame;
}

void hak_record_after(const void *frame)
{
    if (frame == NULL || my_frame != frame)
        return;
    my_frame = NULL;
    if (mine->chunk)
        mine->end = mine->stop;
}

const void *hak_record_write_gone(const void *block)
{
    hak_record_write_free(block);
    return block ? hak_record_before(__builtin_frame_address(0)) : NULL;
}

const void *hak_record_write_give(const void *block)
{
    if (block)
        record_slow(
            &(struct record_event){.operation = HAK_RECORD_GIVE, .address = (uintptr_t)block});
    return hak_record_before(__builtin_frame_address(0));
}

void hak_record_write_take(const void *frame, const void *given, const void *block, size_t size)
{
    struct record_event event = {.address = (uintptr_t)block, .size = size};

    hak_record_after(frame);
    if (block == NULL && given == NULL)
        event.operation = HAK_RECORD_REFUSED;
    else if (block == NULL && size == 0)
        return; /* it was freed */
    else if (block == NULL)
        event = (struct record_event){.operation = HAK_RECORD_RETRACT,
                                      .address = (uintptr_t)given,
                                      .size = size};
    else
        event.operation = block == given ? HAK_RECORD_KEEP : HAK_RECORD_TAKE;
    record_slow(&event);
}

/* ── The end of the process ──────────────────────────────────────────────────────────────────────── */

/* Large blocks that live on: which of their pages were touched; and the calling thread's last chunk. Destructors
 * that come later may free: they begin another one. */
__attribute__((destructor)) static void record_process_ends(void)
{
    if (process == NULL || inside != OUTSIDE || process->state != RECORDING || my_frame)
        return;
    inside = INSIDE;
    if (my_process == process->id) {
        for (unsigned i = 0; i < BUCKETS * BUCKET; i++) {
            process->next_touch = 0;
            record_look_at_pages(&process->large[i / BUCKET][i % BUCKET]);
        }
    }
    struct record_log *log = mine;
    if (log != &none && log->chunk) {
        log->end = NULL;
        record_look_at_clock(log);
        record_close_chunk(log, HAK_RECORD_LAST);
        record_cut_file(log, log->filled);
    }
    record_lock(my_number);
    if (process->shared.chunk)
        record_close_chunk(&process->shared, HAK_RECORD_LAST);
    record_cut_file(&process->shared, process->shared.filled);
    record_unlock();
    inside = OUTSIDE;
}
