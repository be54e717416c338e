/*
 * How glibc's allocator keeps what is free. By itself it has an arena for nearly each thread, and once a large block was given
 * back it keeps up to 64 MB at the end of each: a node with 1,000 channels held twice what it used. One arena, large blocks in
 * mappings of their own, 1 MB kept at the end: it holds what it uses, and takes no more time (docs/decisions/0006-one-arena.md).
 *
 * In C, and called by the loader: in Rust it would be unsafe code. MALLOC_ARENA_MAX and the like in the environment are read
 * before this, and have no effect.
 */
#include <malloc.h>

__attribute__((constructor)) static void keep_little(void) {
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 1 << 20);
	mallopt(M_TRIM_THRESHOLD, 1 << 20);
}
