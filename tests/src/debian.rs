//! Programs of Debian's packages for tests, without installing them and without root.
//!
//! A package of Debian forky and what it depends on are fetched by an `apt-get` with a
//! configuration of its own (its lists, its empty package database, its signatures checked), unpacked into a folder
//! and run from there with their own loader and libraries.

use anyhow::{Context, Result, anyhow, bail, ensure};
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SUITE: &str = "forky";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";

/// A package with a program in `usr/bin`.
#[derive(Clone, Copy, Debug)]
pub struct Package {
	/// Debian's name of it.
	pub name: &'static str,
	/// The program.
	pub exe: &'static str,
	/// What is downloaded, for people.
	pub megabytes: u32,
}

/// Finds a program: where `variable` says, on the `PATH`, in the cache; else the package is fetched into that. Gives how it is called, and
/// where it was found, for people. Blocks; says on stderr when it downloads. Safe to call from several threads and processes
/// at once: one fetches, the others wait for it.
///
/// # Errors
/// The package could not be fetched.
pub fn find_exe(variable: &str, package: &Package) -> Result<(Vec<OsString>, String)> {
	if let Some(exe) = std::env::var_os(variable) {
		let origin = format!("{variable}={}", exe.to_string_lossy());
		return Ok((vec![exe], origin));
	}
	let path = std::env::var_os("PATH").unwrap_or_default();
	if let Some(exe) = std::env::split_paths(&path).map(|dir| dir.join(package.exe)).find(|exe| exe.is_file()) {
		let origin = format!("{}, on the PATH", exe.display());
		return Ok((vec![exe.into()], origin));
	}
	let cache = cache_dir()?;
	fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
	let lock =
		fs::File::create(cache.join(format!("{}.lock", package.exe))).context("cannot make the cache's lock file")?;
	lock.lock().context("cannot lock the cache")?;
	let tree = match unpacked(&cache, package)? {
		Some(tree) => tree,
		None => fetch(&cache, package)?,
	};
	let machine = Machine::this()?;
	let argv = vec![
		tree.join(machine.loader).into(),
		"--library-path".into(),
		tree.join("usr/lib").join(machine.triplet).into(),
		tree.join("usr/bin").join(package.exe).into(),
	];
	Ok((argv, format!("Debian {SUITE}'s {}, in {}", package.name, tree.display())))
}

/// What Debian calls this machine, and where its loader lies in an unpacked tree.
struct Machine {
	architecture: &'static str,
	triplet: &'static str,
	loader: &'static str,
}

impl Machine {
	fn this() -> Result<Machine> {
		match std::env::consts::ARCH {
			"x86_64" => Ok(Machine {
				architecture: "amd64",
				triplet: "x86_64-linux-gnu",
				loader: "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
			}),
			"aarch64" => Ok(Machine {
				architecture: "arm64",
				triplet: "aarch64-linux-gnu",
				loader: "usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1",
			}),
			other => bail!("no package is known for {other}"),
		}
	}
}

fn cache_dir() -> Result<PathBuf> {
	if let Some(dir) = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute()) {
		return Ok(dir.join("inlet"));
	}
	let home = std::env::var_os("HOME").ok_or_else(|| anyhow!("HOME is not set: set XDG_CACHE_HOME"))?;
	Ok(PathBuf::from(home).join(".cache/inlet"))
}

/// The newest tree that an earlier call finished (the rename at the end of `fetch` makes it appear whole).
fn unpacked(cache: &Path, package: &Package) -> Result<Option<PathBuf>> {
	let mut found = Vec::new();
	for entry in fs::read_dir(cache)? {
		let path = entry?.path();
		let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
		if name.starts_with(&format!("{}-", package.name)) && path.join("usr/bin").join(package.exe).is_file() {
			found.push(path);
		}
	}
	found.sort();
	Ok(found.pop())
}

fn fetch(cache: &Path, package: &Package) -> Result<PathBuf> {
	let Package { name: wanted, exe, megabytes } = package;
	let machine = Machine::this()?;
	ensure!(
		Path::new(KEYRING).is_file(),
		"{KEYRING} is missing (package debian-archive-keyring), so Debian's signatures cannot be checked"
	);
	let mirror = mirror();
	eprintln!("{exe}: none found; fetching Debian {SUITE}'s {wanted} (about {megabytes} MB) from {mirror}");
	// Inside the cache, so that the last rename stays on one file system.
	let work = tempfile::Builder::new().prefix("fetching-").tempdir_in(cache).context("cannot use the cache folder")?;
	let apt = Apt::new(work.path(), &machine, &mirror)?;
	apt.run(&["update"])?;
	apt.run(&["--yes", "--download-only", "install", wanted, "libc6"])?;

	let tree = work.path().join("tree");
	let mut version = None;
	for entry in fs::read_dir(work.path().join("cache/archives"))? {
		let deb = entry?.path();
		let name = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
		// Such packages want systemd, users and debconf to be installed as a service; they do not need them to run.
		let own = name.starts_with(&format!("{wanted}_"));
		if !(own || name.starts_with("lib") || name.starts_with("zlib")) || !name.ends_with(".deb") {
			continue;
		}
		if own {
			version = name.split('_').nth(1).map(str::to_owned);
		}
		let status = Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(&tree).status();
		ensure!(status.context("cannot run dpkg-deb")?.success(), "dpkg-deb cannot unpack {}", deb.display());
	}
	let version = version.ok_or_else(|| anyhow!("apt-get downloaded no {wanted}"))?;
	for part in [machine.loader.to_owned(), format!("usr/bin/{exe}")] {
		ensure!(tree.join(&part).is_file(), "the packages hold no {part}");
	}
	for unneeded in ["usr/share", "usr/lib/systemd", "etc", "var"] {
		let _ = fs::remove_dir_all(tree.join(unneeded));
	}
	let target = cache.join(format!("{wanted}-{version}"));
	fs::rename(&tree, &target).with_context(|| format!("cannot put {} in place", target.display()))?;
	eprintln!("{exe}: {wanted} {version} is in {}", target.display());
	Ok(target)
}

/// An `apt-get` that knows one source and no installed package, and writes below one folder only.
struct Apt {
	config: PathBuf,
}

impl Apt {
	fn new(dir: &Path, machine: &Machine, mirror: &str) -> Result<Apt> {
		for part in ["etc/parts", "lists/partial", "cache/archives/partial", "dpkg"] {
			fs::create_dir_all(dir.join(part))?;
		}
		fs::write(dir.join("dpkg/status"), "")?;
		let architecture = machine.architecture;
		fs::write(
			dir.join("etc/sources.list"),
			format!("deb [arch={architecture} signed-by={KEYRING}] {mirror} {SUITE} main\n"),
		)?;
		let root = dir.to_str().ok_or_else(|| anyhow!("the cache folder's name is not UTF-8"))?;
		ensure!(!root.contains('"'), "the cache folder's name holds a quotation mark, which apt cannot read");
		let config = dir.join("apt.conf");
		let mut file = fs::File::create(&config)?;
		// The machine's own fragments are left out: they may hold hooks that run as if something were installed.
		// Check-Valid-Until: the mirror may be a snapshot whose Release file has expired; it is signed all the same.
		write!(
			file,
			r#"Dir::Etc "{root}/etc";
Dir::Etc::sourcelist "{root}/etc/sources.list";
Dir::Etc::sourceparts "{root}/etc/parts";
Dir::Etc::parts "{root}/etc/parts";
Dir::Etc::preferencesparts "{root}/etc/parts";
Dir::State "{root}";
Dir::State::lists "{root}/lists";
Dir::State::status "{root}/dpkg/status";
Dir::Cache "{root}/cache";
Dir::Log "{root}";
APT::Sandbox::User "";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::Retries "3";
"#
		)?;
		file.write_all(proxies().as_bytes())?;
		Ok(Apt { config })
	}

	fn run(&self, arguments: &[&str]) -> Result<()> {
		let output = Command::new("apt-get")
			.arg("--quiet")
			.args(arguments)
			.env("APT_CONFIG", &self.config)
			.env("DEBIAN_FRONTEND", "noninteractive")
			.stdin(Stdio::null())
			.output()
			.context("cannot run apt-get (this machine is not Debian?)")?;
		// A failed download of the lists is only a warning to apt-get; the install after it then finds no package.
		ensure!(
			output.status.success(),
			"apt-get {} failed (offline?): {}",
			arguments.join(" "),
			String::from_utf8_lossy(&output.stderr).trim()
		);
		Ok(())
	}
}

/// How this machine reaches its mirrors (proxies, timeouts): the lines of its own apt configuration that say so.
fn proxies() -> String {
	let Ok(output) = Command::new("apt-config").arg("dump").stdin(Stdio::null()).output() else {
		return String::new();
	};
	let wanted = ["Acquire::http::", "Acquire::https::", "Acquire::ForceIPv4", "Acquire::ForceIPv6"];
	let text = String::from_utf8_lossy(&output.stdout).into_owned();
	let lines = text.lines().filter(|line| wanted.iter().any(|prefix| line.starts_with(prefix)));
	lines.map(|line| format!("{line}\n")).collect()
}

/// The Debian mirror that this machine's own apt sources name, or Debian's own.
fn mirror() -> String {
	let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
	if let Ok(parts) = fs::read_dir("/etc/apt/sources.list.d") {
		files.extend(parts.filter_map(|entry| entry.ok().map(|entry| entry.path())));
	}
	let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
	texts.filter_map(|text| mirror_in(&text)).next().unwrap_or_else(|| DEFAULT_MIRROR.to_owned())
}

/// The first archive of Debian proper (not its security updates, not a frozen snapshot) that a sources file names.
fn mirror_in(sources: &str) -> Option<String> {
	let lines = sources.lines().map(str::trim);
	let active = lines.filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"));
	let mut words = active.flat_map(str::split_whitespace).map(|word| word.trim_end_matches('/'));
	let is_debian = |uri: &&str| uri.contains(":/") && (uri.ends_with("/debian") || uri.ends_with("/debian.list"));
	words.find(is_debian).map(str::to_owned)
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn mirror_is_read_from_both_kinds_of_sources_file() {
		let deb822 =
			"Types: deb\n# http://snapshot.debian.org/archive/debian/2025\nURIs: http://mirror.example/debian\n";
		assert_eq!(mirror_in(deb822).as_deref(), Some("http://mirror.example/debian"));
		let line = "# deb http://old.example/debian x main\ndeb [arch=amd64] https://m.example/debian/ trixie main\n";
		assert_eq!(mirror_in(line).as_deref(), Some("https://m.example/debian"));
		let cloud = "URIs: mirror+file:///etc/apt/mirrors/debian.list\n";
		assert_eq!(mirror_in(cloud).as_deref(), Some("mirror+file:///etc/apt/mirrors/debian.list"));
		let others =
			"deb http://security.debian.org/debian-security x main\ndeb https://node.example/node_20.x y main\n";
		assert_eq!(mirror_in(others), None);
	}
}
