/* Counts what a process asks of its disk, and makes that disk slower: preloaded (LD_PRELOAD) by `cargo race`.
 *
 * RACE_LEDGER names a file that is mapped and shared with who started the process: struct ledger below, all counts since
 * the start. The delay may be changed there at any time. Built with `cc -shared -fPIC -O2`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct ledger {
	uint64_t delay_us;  /* added to each fsync and fdatasync; written by the other side */
	uint64_t syncs;     /* fsync and fdatasync */
	uint64_t sync_ns;   /* the time they took, the added one included */
	uint64_t writes;    /* writes to regular files */
	uint64_t bytes;     /* bytes of these */
	uint64_t log_bytes; /* bytes appended to files opened with O_APPEND: logs, not counted above */
};

static struct ledger nowhere;
static struct ledger *ledger = &nowhere;

__attribute__((constructor)) static void start(void) {
	const char *path = getenv("RACE_LEDGER");
	if (!path) return;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) return;
	void *map = mmap(NULL, sizeof(struct ledger), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED) ledger = map;
}

#define ADD(field, n) __atomic_fetch_add(&ledger->field, (uint64_t)(n), __ATOMIC_RELAXED)

static uint64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int synced(int (*real)(int), int fd) {
	uint64_t begun = now();
	int result = real(fd);
	uint64_t delay = __atomic_load_n(&ledger->delay_us, __ATOMIC_RELAXED);
	if (delay) {
		struct timespec t = { (time_t)(delay / 1000000), (long)(delay % 1000000) * 1000 };
		nanosleep(&t, NULL);
	}
	ADD(syncs, 1);
	ADD(sync_ns, now() - begun);
	return result;
}

static void wrote(int fd, ssize_t n) {
	struct stat st;
	if (n <= 0 || fstat(fd, &st) || !S_ISREG(st.st_mode)) return;
	if (fcntl(fd, F_GETFL) & O_APPEND) {
		ADD(log_bytes, n);
	} else {
		ADD(writes, 1);
		ADD(bytes, n);
	}
}

#define REAL(type, name, ...) \
	static type (*real)(__VA_ARGS__); \
	if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

int fsync(int fd) {
	REAL(int, fsync, int);
	return synced(real, fd);
}

int fdatasync(int fd) {
	REAL(int, fdatasync, int);
	return synced(real, fd);
}

ssize_t write(int fd, const void *data, size_t len) {
	REAL(ssize_t, write, int, const void *, size_t);
	ssize_t n = real(fd, data, len);
	wrote(fd, n);
	return n;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
	REAL(ssize_t, writev, int, const struct iovec *, int);
	ssize_t n = real(fd, parts, count);
	wrote(fd, n);
	return n;
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at) {
	REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
	ssize_t n = real(fd, data, len, at);
	wrote(fd, n);
	return n;
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at) {
	REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
	ssize_t n = real(fd, data, len, at);
	wrote(fd, n);
	return n;
}
