/* Makes calls that write fail, for files under one folder, as another process says in a shared page.
 *
 * The page holds five ints: which calls (bits), what happens (an errno; -1: half is written), how many
 * matching calls pass before it happens, whether it goes on happening, and how often it has happened. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, TRUNCATE = 4, RENAME = 8 };
struct control { int calls, what, skip, sticky, hits; };
static struct control *control;
static const char *prefix;

static void __attribute__((constructor)) begin(void) {
    const char *path = getenv("FAILING_DISK_CONTROL");
    prefix = getenv("FAILING_DISK_FOLDER");
    int fd = path ? open(path, O_RDWR) : -1;
    if (fd < 0 || !prefix) return;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED) control = page;
    close(fd);
}

static int fires(int call, const char *path) {
    if (!control || !(__atomic_load_n(&control->calls, __ATOMIC_SEQ_CST) & call)) return 0;
    if (strncmp(path, prefix, strlen(prefix))) return 0;
    if (__atomic_fetch_sub(&control->skip, 1, __ATOMIC_SEQ_CST) > 0) return 0;
    if (!control->sticky) __atomic_store_n(&control->calls, 0, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&control->hits, 1, __ATOMIC_SEQ_CST);
    return control->what;
}

static int fires_at(int call, int fd) {
    char link[64], path[4096];
    if (!control || !(control->calls & call)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return fires(call, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(what) do { errno = (what) > 0 ? (what) : ENOSPC; return -1; } while (0)

ssize_t write(int fd, const void *data, size_t size) {
    int what = fires_at(WRITE, fd);
    if (what == -1 && size > 1) size /= 2; else if (what) FAIL(what);
    return REAL(write)(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    int what = fires_at(WRITE, fd);
    if (what == -1 && size > 1) size /= 2; else if (what) FAIL(what);
    return REAL(pwrite)(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) { return pwrite(fd, data, size, at); }
ssize_t writev(int fd, const struct iovec *parts, int count) {
    int what = fires_at(WRITE, fd);
    if (what == -1) return REAL(write)(fd, parts[0].iov_base, parts[0].iov_len / 2);
    if (what) FAIL(what);
    return REAL(writev)(fd, parts, count);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    int what = fires_at(WRITE, fd);
    if (what == -1) return REAL(pwrite)(fd, parts[0].iov_base, parts[0].iov_len / 2, at);
    if (what) FAIL(what);
    return REAL(pwritev)(fd, parts, count, at);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at) { return pwritev(fd, parts, count, at); }
int fsync(int fd) { int what = fires_at(SYNC, fd); if (what) FAIL(what); return REAL(fsync)(fd); }
int fdatasync(int fd) { int what = fires_at(SYNC, fd); if (what) FAIL(what); return REAL(fdatasync)(fd); }
int msync(void *at, size_t size, int flags) {
    int what = fires(SYNC, prefix ? prefix : "");
    if (what) FAIL(what);
    return REAL(msync)(at, size, flags);
}
int ftruncate(int fd, off_t size) { int what = fires_at(TRUNCATE, fd); if (what) FAIL(what); return REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }
int rename(const char *from, const char *to) { int what = fires(RENAME, from); if (what) FAIL(what); return REAL(rename)(from, to); }
