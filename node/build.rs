//! Compiles `src/malloc.c` into the binary, where there is a glibc whose allocator it can tell what to do.

fn main() {
	println!("cargo:rerun-if-changed=build.rs");
	println!("cargo:rerun-if-changed=src/malloc.c");
	if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|libc| libc == "gnu") {
		// As an object and not as a library: nothing refers to it, so a linker would leave it out of one.
		for object in cc::Build::new().file("src/malloc.c").compile_intermediates() {
			println!("cargo:rustc-link-arg-bin=inlet={}", object.display());
		}
	}
}
