/* Writes down, in order, what a process does to the files of one folder: every write, truncation, flush and name.
 *
 * Preloaded (LD_PRELOAD). RECORD_FOLDER names the folder, RECORD_LOG the file that is written. A record is
 *     op (1 byte), file (4), offset or size (8), length (8), data        all little-endian
 * with op O = a file got this number (data: its name), W = write, T = truncate to `offset`, S = flush, D = flush of the
 * folder, U = name removed, N = renamed (data: old, zero byte, new), M = mapped for writing. A file keeps its number when
 * it is renamed, and one that is made anew gets another.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define FDS 1024
#define FILES 256
#define FOLDER -2

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int number_of_fd[FDS];             /* 0: not ours */
static char *names[FILES];                /* number - 1 -> name, NULL once removed */
static int known;
static int log_fd = -1;
static const char *folder;

static void __attribute__((constructor)) begin(void) {
    folder = getenv("RECORD_FOLDER");
    const char *log = getenv("RECORD_LOG");
    if (folder && log)
        log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

static void put(char op, int32_t file, int64_t at, const void *data, int64_t length) {
    char *record = malloc(21 + length);
    record[0] = op;
    memcpy(record + 1, &file, 4);
    memcpy(record + 5, &at, 8);
    memcpy(record + 13, &length, 8);
    memcpy(record + 21, data, length);
    if (syscall(SYS_write, log_fd, record, 21 + length) != 21 + length) abort();
    free(record);
}

static const char *own_name(const char *path) { /* the name within the folder; NULL where it is elsewhere */
    size_t n = folder ? strlen(folder) : 0;
    if (log_fd < 0 || !path || strncmp(path, folder, n) || path[n] != '/') return NULL;
    return path + n + 1;
}

static int number_of(const char *name) {
    for (int i = 0; i < known; i++)
        if (names[i] && !strcmp(names[i], name)) return i + 1;
    if (known == FILES) abort();
    names[known++] = strdup(name);
    put('O', known, 0, name, strlen(name));
    return known;
}

static int opened(int fd, const char *path) {
    if (fd < 0 || fd >= FDS || log_fd < 0 || !path) return fd;
    pthread_mutex_lock(&lock);
    const char *name = own_name(path);
    number_of_fd[fd] = name ? number_of(name) : !strcmp(path, folder) ? FOLDER : 0;
    pthread_mutex_unlock(&lock);
    return fd;
}

static void note(char op, int fd, int64_t at, const void *data, int64_t length) {
    if (fd < 0 || fd >= FDS || !number_of_fd[fd] || log_fd < 0) return;
    pthread_mutex_lock(&lock);
    if (number_of_fd[fd] != FOLDER) put(op, number_of_fd[fd], at, data, length);
    else if (op == 'S') put('D', 0, 0, "", 0);
    pthread_mutex_unlock(&lock);
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define MODE mode_t mode = 0; va_list more; va_start(more, flags); if (flags & (O_CREAT | O_TMPFILE)) mode = va_arg(more, mode_t); va_end(more)

int open(const char *path, int flags, ...) { REAL(open); MODE; return opened(real(path, flags, mode), path); }
int open64(const char *path, int flags, ...) { REAL(open64); MODE; return opened(real(path, flags, mode), path); }
int openat(int at, const char *path, int flags, ...) { REAL(openat); MODE; return opened(real(at, path, flags, mode), path); }
int openat64(int at, const char *path, int flags, ...) { REAL(openat64); MODE; return opened(real(at, path, flags, mode), path); }
int close(int fd) { REAL(close); if (fd >= 0 && fd < FDS) number_of_fd[fd] = 0; return real(fd); }

ssize_t write(int fd, const void *data, size_t n) {
    REAL(write);
    int64_t at = fd >= 0 && fd < FDS && number_of_fd[fd] ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t done = real(fd, data, n);
    if (done > 0) note('W', fd, at, data, done);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
    REAL(pwrite);
    ssize_t done = real(fd, data, n, at);
    if (done > 0) note('W', fd, at, data, done);
    return done;
}
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    REAL(pwrite64);
    ssize_t done = real(fd, data, n, at);
    if (done > 0) note('W', fd, at, data, done);
    return done;
}
int ftruncate(int fd, off_t size) { REAL(ftruncate); int r = real(fd, size); if (!r) note('T', fd, size, "", 0); return r; }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); int r = real(fd, size); if (!r) note('T', fd, size, "", 0); return r; }
int fsync(int fd) { REAL(fsync); int r = real(fd); if (!r) note('S', fd, 0, "", 0); return r; }
int fdatasync(int fd) { REAL(fdatasync); int r = real(fd); if (!r) note('S', fd, 0, "", 0); return r; }

static void removed(const char *name) {
    for (int i = 0; i < known; i++)
        if (names[i] && !strcmp(names[i], name)) { put('U', i + 1, 0, name, strlen(name)); free(names[i]); names[i] = NULL; }
}
int unlink(const char *path) {
    REAL(unlink);
    int r = real(path);
    const char *name = own_name(path);
    if (!r && name) { pthread_mutex_lock(&lock); removed(name); pthread_mutex_unlock(&lock); }
    return r;
}
int rename(const char *old, const char *new) {
    REAL(rename);
    int r = real(old, new);
    const char *from = own_name(old), *to = own_name(new);
    if (!r && from && to) {
        pthread_mutex_lock(&lock);
        removed(to);
        int n = number_of(from);
        char both[2048];
        int length = snprintf(both, sizeof both, "%s%c%s", from, 0, to);
        put('N', n, 0, both, length);
        free(names[n - 1]);
        names[n - 1] = strdup(to);
        pthread_mutex_unlock(&lock);
    }
    return r;
}

static void mapped(int prot, int flags, int fd) { if (prot & PROT_WRITE && flags & MAP_SHARED) note('M', fd, 0, "", 0); }
void *mmap(void *a, size_t n, int prot, int flags, int fd, off_t at) { REAL(mmap); mapped(prot, flags, fd); return real(a, n, prot, flags, fd, at); }
void *mmap64(void *a, size_t n, int prot, int flags, int fd, off64_t at) { REAL(mmap64); mapped(prot, flags, fd); return real(a, n, prot, flags, fd, at); }
