//! A real Tor that knows no network, or one of this machine only.

use crate::debian::{Package, find_exe};
use crate::process::Process;
use crate::scratch::{Scratch, eventually, free_port};
use crate::world::SOON;
use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const TOR: Package = Package { name: "tor", exe: "tor", megabytes: 20 };
const AUTHORITIES: usize = 3;
const RELAYS: usize = 4;
/// How long a network may take until it can be used: its first consensus comes after half a minute.
const BOOTSTRAP: Duration = Duration::from_secs(120);

/// An authority that is not there: no network is.
const CLOSED: &str = "DirAuthority closed orport=1 v3ident=0123456789ABCDEF0123456789ABCDEF01234567 127.0.0.1:2 \
	 0123456789ABCDEF0123456789ABCDEF01234567\nUseDefaultFallbackDirs 0\nSocksTimeout 5\n";
/// For all of a network of one's own.
const OWN: &str = "TestingTorNetwork 1\nTestingDirAuthVoteExit *\nTestingDirAuthVoteHSDir *\nTestingDirAuthVoteGuard *\n\
	 AssumeReachable 1\nShutdownWaitLength 0\n";
/// For those of it that carry others' traffic, to this machine only.
const CARRIES: &str =
	"Address 127.0.0.1\nSocksPort 0\nExitRelay 1\nExitPolicy accept 127.0.0.0/8:*\nExitPolicyRejectPrivate 0\n";
const VOTES: &str = "AuthoritativeDirectory 1\nV3AuthoritativeDirectory 1\nContactInfo nobody@example.org\n\
	 TestingV3AuthInitialVotingInterval 20\nTestingV3AuthInitialVoteDelay 4\nTestingV3AuthInitialDistDelay 4\n\
	 V3AuthVotingInterval 40\nV3AuthVoteDelay 4\nV3AuthDistDelay 4\nV3AuthNIntervalsValid 2\n";

/// A running Tor; killed when dropped.
pub struct Tor {
	process: Process,
	/// Its SOCKS port.
	pub socks: SocketAddr,
	/// Its control port, a socket. The login is by cookie.
	pub control: PathBuf,
}

impl Tor {
	/// Finds (or fetches) one (`TOR_EXE`), and starts it below `scratch`. Its one authority is a closed port of this machine: its
	/// ports work, and lead nowhere.
	///
	/// # Errors
	/// There is none and none can be fetched, or it does not start.
	pub async fn start(scratch: &Scratch) -> Result<Tor> {
		Tor::using(scratch, &program().await?, CLOSED).await
	}

	/// One that uses the network that `settings` say.
	async fn using(scratch: &Scratch, tor: &[OsString], settings: &str) -> Result<Tor> {
		let dir = private(scratch, "tor")?;
		let socks: SocketAddr = format!("127.0.0.1:{}", free_port()?).parse()?;
		let control = dir.join("control");
		let ports =
			format!("SocksPort {socks} ExtendedErrors\nControlSocket {}\nCookieAuthentication 1\n", control.display());
		let process = launch(scratch, tor, &dir, &format!("{settings}{ports}"))?;
		let tor = Tor { process, socks, control };
		let open = async || {
			tor.process.check_running()?;
			Ok(tokio::net::UnixStream::connect(&tor.control).await.ok())
		};
		eventually(SOON, "Tor's control port is open", open).await?;
		Ok(tor)
	}
}

/// A Tor network on this machine, and two that use it.
pub struct TorNetwork {
	_carriers: Vec<Process>,
	/// Those who use it.
	pub tors: [Tor; 2],
}

impl TorNetwork {
	/// Starts it, and waits until both users have a way through it. Takes about half a minute.
	///
	/// # Errors
	/// There is no Tor and none can be fetched, or its network does not come about.
	pub async fn start(scratch: &Scratch) -> Result<TorNetwork> {
		let tor = program().await?;
		let mut authorities = Vec::new();
		for _ in 0..AUTHORITIES {
			authorities.push(Authority::new(scratch, &tor)?);
		}
		let lines: String = authorities.iter().map(Authority::line).collect();
		let mut carriers = Vec::new();
		for one in &authorities {
			let settings = format!("{OWN}{lines}{CARRIES}{VOTES}{}", one.settings());
			carriers.push(launch(scratch, &tor, &one.dir, &settings)?);
		}
		for _ in 0..RELAYS {
			let settings = format!("{OWN}{lines}{CARRIES}ORPort {}\n", free_port()?);
			carriers.push(launch(scratch, &tor, &private(scratch, "relay")?, &settings)?);
		}
		let settings = format!("{OWN}{lines}");
		let tors = [Tor::using(scratch, &tor, &settings).await?, Tor::using(scratch, &tor, &settings).await?];
		for tor in &tors {
			let ready = async || Ok(tor.process.log_text().contains("Bootstrapped 100%").then_some(()));
			eventually(BOOTSTRAP, "Tor has reached its network", ready).await?;
		}
		Ok(TorNetwork { _carriers: carriers, tors })
	}
}

/// Who votes on what the network is.
struct Authority {
	dir: PathBuf,
	port: u16,
	directory: u16,
	v3: String,
	relay: String,
}

impl Authority {
	/// Makes its keys.
	fn new(scratch: &Scratch, tor: &[OsString]) -> Result<Authority> {
		let (dir, port, directory) = (private(scratch, "authority")?, free_port()?, free_port()?);
		let keys = dir.join("keys");
		fs::DirBuilder::new().mode(0o700).create(&keys)?;
		let mut beside = tor.to_vec();
		let exe = beside.last_mut().context("no program")?;
		*exe = PathBuf::from(&*exe).with_file_name("tor-gencert").into();
		let mut command = command(&beside);
		command.args(["--create-identity-key", "-m", "12", "--passphrase-fd", "0", "-a"]);
		command.arg(format!("127.0.0.1:{directory}")).current_dir(&keys);
		let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
		child.stdin.take().context("no standard input")?.write_all(b"secret\n")?;
		let output = child.wait_with_output()?;
		ensure!(output.status.success(), "tor-gencert: {}", String::from_utf8_lossy(&output.stderr));
		let certificate = fs::read_to_string(keys.join("authority_certificate"))?;
		let v3 = certificate.lines().find_map(|line| line.strip_prefix("fingerprint "));
		let v3 = v3.context("a certificate without a fingerprint")?.to_owned();
		let mut authority = Authority { dir, port, directory, v3, relay: "0".repeat(40) };
		authority.relay = authority.fingerprint(tor)?;
		Ok(authority)
	}

	/// Of its key as a relay, which is made for that.
	fn fingerprint(&self, tor: &[OsString]) -> Result<String> {
		let torrc = self.dir.join("torrc");
		let settings =
			format!("{OWN}{}{CARRIES}DataDirectory {}\n{}", self.line(), self.dir.display(), self.settings());
		fs::write(&torrc, settings)?;
		let output = command(tor).arg("-f").arg(&torrc).arg("--list-fingerprint").output()?;
		let text = String::from_utf8_lossy(&output.stdout);
		// "NICKNAME 0123 4567 ...", the last line.
		let words = text.lines().last().unwrap_or_default().split(' ').skip(1);
		let fingerprint: String = words.collect();
		ensure!(fingerprint.len() == 40, "no fingerprint: {text}");
		Ok(fingerprint)
	}

	fn settings(&self) -> String {
		format!("ORPort {}\nDirPort {}\n", self.port, self.directory)
	}

	/// How others know it.
	fn line(&self) -> String {
		let Authority { port, directory, v3, relay, .. } = self;
		format!("DirAuthority own orport={port} no-v2 v3ident={v3} 127.0.0.1:{directory} {relay}\n")
	}
}

async fn program() -> Result<Vec<OsString>> {
	let found = tokio::task::spawn_blocking(|| find_exe("TOR_EXE", &TOR)).await?;
	Ok(found.context("no tor: TOR_EXE is not set, the PATH has none, Debian's cannot be fetched")?.0)
}

/// Tor wants its folders for itself.
fn private(scratch: &Scratch, name: &str) -> Result<PathBuf> {
	let dir = scratch.folder(name)?;
	fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
	Ok(dir)
}

fn command(argv: &[OsString]) -> Command {
	let mut command = Command::new(&argv[0]);
	command.args(&argv[1..]);
	command
}

fn launch(scratch: &Scratch, tor: &[OsString], dir: &Path, settings: &str) -> Result<Process> {
	let (torrc, log) = (dir.join("torrc"), dir.join("output.log"));
	fs::write(&torrc, format!("{settings}DataDirectory {}\nLog notice stdout\n", dir.display()))?;
	scratch.log("tor", &log);
	let mut command = command(tor);
	// The machine's own settings are not to be read.
	command.arg("--defaults-torrc").arg(dir.join("none")).arg("--ignore-missing-torrc").arg("-f").arg(&torrc);
	Process::start("tor", &mut command, &log)
}
