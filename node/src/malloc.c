/*
 * How glibc's allocator keeps what is free. It has an arena for each thread, and after the first large block is given back it
 * keeps up to 64 MB at the end of each: a node with 1,000 channels held 100 MB for 50 MB in use. One arena, large blocks in
 * mappings of their own, and 1 MB kept at the end: 55 MB, and no more time (node/docs/decisions/0006-one-arena.md).
 *
 * In C, and called by the loader: Rust could do it in unsafe code only. MALLOC_ARENA_MAX and the like in the environment are
 * read before this and so have no effect.
 */
#include <malloc.h>

__attribute__((constructor)) static void keep_little(void) {
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 1 << 20);
	mallopt(M_TRIM_THRESHOLD, 1 << 20);
}
