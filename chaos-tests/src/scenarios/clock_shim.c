/* The wall clock of one process, moved: every way to read CLOCK_REALTIME is off by the seconds in the file that CLOCK_OFFSET
 * names, at once when the file changes. Waits until a wall clock time behave as the kernel's do under a moved clock: a
 * jump back prolongs them, one ahead ends them. Monotonic clocks are left alone. Loaded with LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SLICE_NS 50000000L

static volatile int64_t still; /* without a file, nothing moves */
static volatile int64_t *offset = &still;
static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_cnd_timedwait)(cnd_t *, mtx_t *, const struct timespec *);
static int (*real_cond_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

__attribute__((constructor)) static void begin(void) {
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    real_cnd_timedwait = dlsym(RTLD_NEXT, "cnd_timedwait");
    real_cond_timedwait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    const char *path = getenv("CLOCK_OFFSET");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file >= 0) {
        void *page = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
        if (page != MAP_FAILED) offset = page;
        close(file);
    }
}

static int read_clock(clockid_t id, struct timespec *at) {
    if (!real_clock_gettime) begin();
    int result = real_clock_gettime(id, at);
    if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) at->tv_sec += *offset;
    return result;
}

int clock_gettime(clockid_t id, struct timespec *at) { return read_clock(id, at); }

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void)zone;
    struct timespec now;
    int result = read_clock(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return result;
}

time_t time(time_t *at) {
    struct timespec now;
    read_clock(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *at, int base) { return read_clock(CLOCK_REALTIME, at) == 0 ? base : 0; }

static int before(const struct timespec *a, const struct timespec *b) {
    return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

/* The end of the next slice in the kernel's time; 0 when `until`, in moved time, has passed. */
static int slice(const struct timespec *until, struct timespec *end) {
    struct timespec now, moved = *until;
    moved.tv_sec -= *offset;
    real_clock_gettime(CLOCK_REALTIME, &now);
    if (!before(&now, &moved)) return 0;
    end->tv_sec = now.tv_sec + (now.tv_nsec + SLICE_NS) / 1000000000L;
    end->tv_nsec = (now.tv_nsec + SLICE_NS) % 1000000000L;
    if (before(&moved, end)) *end = moved;
    return 1;
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
    struct timespec end;
    while (slice(until, &end)) {
        int result = real_cnd_timedwait(condition, mutex, &end);
        if (result != thrd_timedout) return result;
    }
    return thrd_timedout;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    struct timespec end;
    while (slice(until, &end)) {
        int result = real_cond_timedwait(condition, mutex, &end);
        if (result != ETIMEDOUT) return result;
    }
    return ETIMEDOUT;
}
