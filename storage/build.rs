//! Finds out whether the tests of the store on a server can be made here: they start a PostgreSQL of their own.

#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../tests/src/postgres.rs"]
mod postgres;

fn main() {
	println!("cargo:rustc-check-cfg=cfg(postgres_here)");
	println!("cargo:rerun-if-env-changed=INLET_POSTGRES_BIN");
	println!("cargo:rerun-if-env-changed=PATH");
	println!("cargo:rerun-if-changed=build.rs");
	if postgres::Postgres::find().is_some() {
		println!("cargo:rustc-cfg=postgres_here");
	}
}
