/* For LD_PRELOAD: each allocation ends right before a page that nobody may touch, and nobody may
 * touch it once it is free. So whoever reads past what he was given, or what is there no more,
 * dies. Past so many living allocations others have no guard: mappings are limited. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, MOST = 12000, ROOM_BYTES = 1 << 20, QUARANTINE = 2000 };

struct head { /* in a page of its own before the allocation's pages */
    size_t bytes, pages;
    struct head *next;
    char guarded;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned living;
static struct head *freed, **freed_end = &freed; /* in the order of their end */
static unsigned n_freed;

static struct head *head_of(void *at) {
    /* The word below the allocation leads to its head. */
    return ((struct head **)at)[-1];
}

static void *allocate(size_t bytes, size_t alignment) {
    size_t whole = (bytes + alignment - 1) & ~(alignment - 1);
    size_t pages = (whole + 16 + PAGE - 1) / PAGE + (alignment > 16 ? alignment / PAGE + 1 : 0);
    pthread_mutex_lock(&mutex);
    int guarded = living < MOST;
    if (guarded)
        living++;
    pthread_mutex_unlock(&mutex);
    char *map =
        mmap(NULL, (pages + 2) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) {
        errno = ENOMEM;
        return NULL;
    }
    if (guarded)
        mprotect(map + (pages + 1) * PAGE, PAGE, PROT_NONE);
    struct head *head = (struct head *)map;
    *head = (struct head){.bytes = bytes, .pages = pages, .guarded = (char)guarded};
    char *at = map + (pages + 1) * PAGE - whole;
    at = (char *)((uintptr_t)at & ~(uintptr_t)(alignment - 1));
    ((struct head **)at)[-1] = head;
    return at;
}

void *malloc(size_t bytes) {
    return allocate(bytes ? bytes : 1, 16);
}

void *calloc(size_t number, size_t size) {
    if (size && number > SIZE_MAX / size)
        return NULL;
    return malloc(number * size); /* fresh pages are zero */
}

void free(void *at) {
    if (!at)
        return;
    int saved_errno = errno;
    struct head *head = head_of(at);
    if (!head->guarded) {
        munmap(head, (head->pages + 2) * PAGE);
        errno = saved_errno;
        return;
    }
    mprotect((char *)head + PAGE, head->pages * PAGE, PROT_NONE);
    pthread_mutex_lock(&mutex);
    head->next = NULL;
    *freed_end = head;
    freed_end = &head->next;
    struct head *oldest = NULL;
    if (++n_freed > QUARANTINE) {
        oldest = freed;
        freed = oldest->next;
        if (!freed)
            freed_end = &freed;
        n_freed--;
        living--;
    }
    pthread_mutex_unlock(&mutex);
    if (oldest)
        munmap(oldest, (oldest->pages + 2) * PAGE);
    errno = saved_errno;
}

void *realloc(void *before, size_t bytes) {
    void *at = malloc(bytes);
    if (!at || !before)
        return at;
    size_t old = head_of(before)->bytes;
    memcpy(at, before, old < bytes ? old : bytes);
    free(before);
    return at;
}

void *memalign(size_t alignment, size_t bytes) {
    return allocate(bytes ? bytes : 1, alignment < 16 ? 16 : alignment);
}
void *aligned_alloc(size_t alignment, size_t bytes) {
    return memalign(alignment, bytes);
}
int posix_memalign(void **out, size_t alignment, size_t bytes) {
    *out = memalign(alignment, bytes);
    return *out ? 0 : ENOMEM;
}
size_t malloc_usable_size(void *at) {
    return at ? head_of(at)->bytes : 0;
}

static void before_fork(void) {
    pthread_mutex_lock(&mutex);
}
static void after_fork(void) {
    pthread_mutex_unlock(&mutex);
}
__attribute__((constructor)) static void load(void) {
    pthread_atfork(before_fork, after_fork, after_fork);
}
