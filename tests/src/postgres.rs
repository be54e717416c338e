//! A PostgreSQL server of one's own, on a socket in a folder that nobody else may enter. It is gone when its handle is dropped
//! and when the process that has the handle is, in whatever way.
//!
//! Also compiled into the tests of `inlet-storage` (which this crate depends on), so it uses the standard library only.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// PostgreSQL refuses to run as root: it then runs as Debian's `nobody`.
const NOBODY: u32 = 65_534;

/// A server that runs.
#[derive(Debug)]
pub struct Postgres {
	bin: PathBuf,
	dir: PathBuf,
	/// Stops the server and removes its folder when its standard input ends.
	keeper: Child,
}

impl Postgres {
	/// Where the server's programs are: the folder `INLET_POSTGRES_BIN`, one of the `PATH`, or Debian's newest.
	/// `None`: there are none.
	pub fn find() -> Option<PathBuf> {
		let named = std::env::var_os("INLET_POSTGRES_BIN").map(PathBuf::from);
		let path = std::env::var_os("PATH").unwrap_or_default();
		let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
			.map(|found| found.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect())
			.unwrap_or_default();
		debian.sort_by_key(|bin| bin.parent()?.file_name()?.to_str()?.parse::<u32>().ok());
		let on_path = std::env::split_paths(&path);
		let has_all = |bin: &PathBuf| ["initdb", "pg_ctl", "postgres"].iter().all(|name| bin.join(name).is_file());
		named.into_iter().chain(on_path).chain(debian.into_iter().rev()).find(has_all)
	}

	/// Makes a new server and starts it. Blocks until it can be used.
	///
	/// # Errors
	/// What its programs say.
	pub fn start() -> Result<Postgres, String> {
		let bin = Postgres::find().ok_or("no PostgreSQL here: install it (Debian: apt-get install postgresql)")?;
		let dir = std::env::temp_dir().join(format!("inlet-pg-{}-{:x}", std::process::id(), unique()));
		fs::create_dir(&dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
		fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).map_err(|e| e.to_string())?;
		if is_root() {
			chown(&dir, Some(NOBODY), Some(NOBODY)).map_err(|e| format!("cannot give {} away: {e}", dir.display()))?;
		}
		// The last of it is what happens when this process has ended.
		let script = "cat >/dev/null; \"$@\" >/dev/null 2>&1; rm -rf \"$0\"";
		let mut keeper = Command::new("sh");
		keeper.arg("-c").arg(script).arg(&dir).args(argv(&bin, "pg_ctl"));
		keeper.args(["-D".into(), dir.join("data").into_os_string(), "-m".into(), "immediate".into(), "stop".into()]);
		let keeper = keeper.stdin(Stdio::piped()).current_dir("/").spawn().map_err(|e| format!("no shell: {e}"))?;
		let server = Postgres { bin, dir, keeper };
		server.run("initdb", &["-U", "inlet", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])?;
		server.resume()?;
		Ok(server)
	}

	/// Listens on a port of 127.0.0.1 as well, under TLS with this certificate and key (PEM), from its next start on, which is
	/// now.
	///
	/// # Errors
	/// What its programs say.
	pub fn serve_tls(&self, port: u16, certificate: &str, key: &str) -> Result<(), String> {
		let data = self.dir.join("data");
		for (name, text) in [("server.crt", certificate), ("server.key", key)] {
			let file = data.join(name);
			let mode = fs::Permissions::from_mode(0o600);
			let owner = is_root().then_some(NOBODY);
			let made = fs::write(&file, text).and_then(|()| fs::set_permissions(&file, mode));
			made.and_then(|()| chown(&file, owner, owner)).map_err(|e| format!("{}: {e}", file.display()))?;
		}
		let settings = format!("listen_addresses = '127.0.0.1'\nport = {port}\nssl = on\n");
		fs::write(data.join("postgresql.auto.conf"), settings).map_err(|e| e.to_string())?;
		self.crash()?;
		self.start_server("-c shared_buffers=32MB")
	}

	/// Starts it again after [`crash`](Postgres::crash).
	///
	/// # Errors
	/// What its programs say.
	pub fn resume(&self) -> Result<(), String> {
		self.start_server("-c listen_addresses= -c shared_buffers=32MB")
	}

	fn start_server(&self, settings: &str) -> Result<(), String> {
		let log = self.dir.join("log").display().to_string();
		let settings = format!("{settings} -c unix_socket_directories={}", self.dir.display());
		self.run("pg_ctl", &["-w", "-t", "120", "-l", &log, "-o", &settings, "start"])
	}

	/// Ends it as a crash would: no connection is told, nothing is written.
	///
	/// # Errors
	/// What its programs say.
	pub fn crash(&self) -> Result<(), String> {
		self.run("pg_ctl", &["-w", "-m", "immediate", "stop"])
	}

	/// How a client reaches it: as the user `inlet`, without a password.
	pub fn url(&self) -> String {
		format!("postgresql://inlet@/postgres?host={}", self.dir.display())
	}

	fn run(&self, program: &str, arguments: &[&str]) -> Result<(), String> {
		let argv = argv(&self.bin, program);
		// A server that it starts must not keep our pipes open: what it says goes into a file.
		let said = std::env::temp_dir().join(format!("inlet-pg-said-{}-{:x}", std::process::id(), unique()));
		let file = fs::File::create(&said).map_err(|e| e.to_string())?;
		let errors = file.try_clone().map_err(|e| e.to_string())?;
		let status = Command::new(&argv[0])
			.args(&argv[1..])
			.arg("-D")
			.arg(self.dir.join("data"))
			.args(arguments)
			.current_dir("/")
			.stdin(Stdio::null())
			.stdout(file)
			.stderr(errors)
			.status()
			.map_err(|e| format!("cannot run {program}: {e}"))?;
		let text = fs::read_to_string(&said).unwrap_or_default();
		let _ = fs::remove_file(&said);
		if status.success() {
			return Ok(());
		}
		let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
		Err(format!("{program}: {status}\n{text}\n{log}"))
	}
}

impl Drop for Postgres {
	fn drop(&mut self) {
		drop(self.keeper.stdin.take());
		// It fails only if the keeper is gone already.
		let _ = self.keeper.wait();
	}
}

/// A command line, as another user if we are root.
fn argv(bin: &Path, program: &str) -> Vec<OsString> {
	let mut argv: Vec<OsString> = Vec::new();
	if is_root() {
		let user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"];
		argv.extend(user.map(OsString::from));
	}
	argv.push(bin.join(program).into());
	argv
}

fn is_root() -> bool {
	use std::os::unix::fs::MetadataExt;
	fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A number that no other call of this process gets.
fn unique() -> u32 {
	use std::sync::atomic::{AtomicU32, Ordering};
	static NEXT: AtomicU32 = AtomicU32::new(0);
	NEXT.fetch_add(1, Ordering::Relaxed)
}
