/* SPDX-License-Identifier: MIT */
/* A library that forks carefully, as real ones do: its handlers hold its own lock while a process forks, have a worker
 * do something, which allocates, and end the worker before the fork. All of that never returns if the allocator's
 * locks are held by then. The handlers are registered in a constructor.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>

void order_work(void);

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_t worker;
static sem_t wanted, done;
static int quits;

static void use_memory(void)
{
    void *block[64];
    size_t size = 16;

    for (int i = 0; i < 64; i++, size += size / 4)
        block[i] = malloc(size);
    for (int i = 0; i < 64; i++)
        free(block[i]);
}

/* With the library's lock held. */
void order_work(void)
{
    pthread_mutex_lock(&mutex);
    use_memory();
    pthread_mutex_unlock(&mutex);
}

static void *serve(void *unused)
{
    for (;;) {
        sem_wait(&wanted);
        use_memory();
        if (quits)
            return unused;
        sem_post(&done);
    }
}

static void begin(void)
{
    quits = 0;
    sem_init(&wanted, 0, 0);
    sem_init(&done, 0, 0);
    if (pthread_create(&worker, NULL, serve, NULL))
        abort();
}

static void have_served(void)
{
    sem_post(&wanted);
    sem_wait(&done);
}

static void prepare(void)
{
    pthread_mutex_lock(&mutex);
    have_served();
    quits = 1;
    sem_post(&wanted);
    pthread_join(worker, NULL);
}

static void after(void)
{
    begin();
    have_served();
    pthread_mutex_unlock(&mutex);
}

/* Before it allocates anything: the first thing that happens in this process may be this. */
__attribute__((constructor)) static void construct(void)
{
    if (pthread_atfork(prepare, after, after))
        abort();
    begin();
}
