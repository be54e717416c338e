//! A real Tor that knows no network: its one authority is a closed port of this machine. Its ports work, and lead nowhere.

use crate::debian::{Package, find_exe};
use crate::process::Process;
use crate::scratch::{Scratch, eventually, free_port};
use crate::world::SOON;
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

const TOR: Package = Package { name: "tor", exe: "tor", megabytes: 20 };

/// A running Tor; killed when dropped.
pub struct Tor {
	process: Process,
	/// Its SOCKS port.
	pub socks: SocketAddr,
	/// Its control port, a socket. The login is by cookie.
	pub control: PathBuf,
}

impl Tor {
	/// Finds (or fetches) one (`TOR_EXE`), and starts it below `scratch`.
	///
	/// # Errors
	/// There is none and none can be fetched, or it does not start.
	pub async fn start(scratch: &Scratch) -> Result<Tor> {
		let found = tokio::task::spawn_blocking(|| find_exe("TOR_EXE", &TOR)).await?;
		let (argv, _) = found.context("no tor: TOR_EXE is not set, the PATH has none, Debian's cannot be fetched")?;
		let dir = scratch.folder("tor")?;
		// Tor keeps to itself what is in a folder for itself.
		let private = dir.join("private");
		std::fs::create_dir(&private)?;
		std::fs::set_permissions(&private, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
		let socks: SocketAddr = format!("127.0.0.1:{}", free_port()?).parse()?;
		let (control, torrc, log) = (private.join("control"), dir.join("torrc"), dir.join("output.log"));
		let settings = format!(
			"DataDirectory {data}\nSocksPort {socks} ExtendedErrors\nControlSocket {control}\nCookieAuthentication 1\n\
			 DirAuthority closed orport=1 v3ident=0123456789ABCDEF0123456789ABCDEF01234567 127.0.0.1:2 \
			 0123456789ABCDEF0123456789ABCDEF01234567\nUseDefaultFallbackDirs 0\nSocksTimeout 5\nLog notice stdout\n",
			data = private.join("data").display(),
			control = control.display(),
		);
		std::fs::write(&torrc, settings)?;
		scratch.log("tor", &log);
		let mut command = Command::new(&argv[0]);
		command.args(&argv[1..]).arg("--defaults-torrc").arg(dir.join("none")).arg("-f").arg(&torrc);
		command.arg("--ignore-missing-torrc");
		let tor = Tor { process: Process::start("tor", &mut command, &log)?, socks, control };
		let open = async || {
			tor.process.check_running()?;
			Ok(tokio::net::UnixStream::connect(&tor.control).await.ok())
		};
		eventually(SOON, "Tor's control port is open", open).await?;
		Ok(tor)
	}
}
