//! What is in `deploy/` agrees with the binary: versions, commands, settings, ports. Each form of delivery has its lint here; what they do
//! when installed is tried by `deploy/debian/check` and, by hand, with `deploy/image/boot`.

use clap::Parser;
use inlet::cli::Cli;
use inlet::config::{Config, Overrides, SYSTEM_SOCKET};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn deploy(path: &str) -> PathBuf {
	PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

fn read(path: &str) -> String {
	std::fs::read_to_string(deploy(path)).unwrap_or_else(|error| panic!("deploy/{path}: {error}"))
}

/// The values after `key` at the beginning of a line.
fn values<'a>(text: &'a str, key: &'a str) -> Vec<&'a str> {
	text.lines().filter_map(|line| line.trim_start().strip_prefix(key)).map(str::trim).collect()
}

fn only<'a>(text: &'a str, key: &'a str) -> &'a str {
	match values(text, key)[..] {
		[value] => value,
		ref other => panic!("{key}: {other:?}"),
	}
}

/// Panics unless the binary would take this command line.
fn takes(command: &str) {
	let words = command.split_whitespace().map(|word| if word.ends_with("/inlet") { "inlet" } else { word });
	Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{command}: {error}"));
}

/// What the configuration becomes with these variables.
fn with_variables(variables: &[(&str, &str)]) -> Config {
	let dir = tempfile::tempdir().expect("a directory for temporary files");
	let flags = Overrides { data_dir: Some(dir.path().to_owned()), ..Overrides::default() };
	let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
	Config::load(&flags, variables).unwrap_or_else(|error| panic!("{error}"))
}

/// `"run"` out of `["/usr/bin/inlet", "run"]`: a list as JSON has it, as a command line.
fn json_command(list: &str) -> String {
	serde_json::from_str::<Vec<String>>(list).unwrap_or_else(|error| panic!("{list}: {error}")).join(" ")
}

fn yaml(path: &str) -> serde_json::Value {
	serde_norway::from_str(&read(path)).unwrap_or_else(|error| panic!("deploy/{path}: {error}"))
}

#[test]
fn all_forms_have_the_binarys_version() {
	assert!(read("debian/changelog").starts_with(&format!("inlet ({VERSION}) ")));
	assert_eq!(yaml("umbrel/umbrel-app.yml")["version"], VERSION);
	assert_eq!(yaml("umbrel/docker-compose.yml")["services"]["inlet"]["image"], format!("inlet:{VERSION}"));
	assert_eq!(yaml("start9/manifest.yaml")["version"], VERSION);
	assert_eq!(only(&read("nix/package.nix"), "version = "), format!("\"{VERSION}\";"));
}

#[test]
fn the_unit_runs_what_the_binary_takes() {
	let unit = read("systemd/inlet.service");
	takes(only(&unit, "ExecStart="));
	let variables: Vec<(&str, &str)> =
		values(&unit, "Environment=").iter().map(|v| v.split_once('=').unwrap()).collect();
	let mut variables = variables;
	variables.push(("INLET_NODE_NETWORK", "signet"));
	let config = with_variables(&variables);
	assert_eq!(config.place.socket.to_str(), Some(SYSTEM_SOCKET));
	assert!(config.monitor.is_some());
	let made = read("systemd/inlet.tmpfiles.conf");
	for socket in [&config.place.socket, config.monitor.as_ref().unwrap()] {
		let dir = socket.parent().unwrap().to_str().unwrap();
		assert!(made.contains(&format!("d {dir} ")), "nobody makes {dir}");
		assert!(read("nix/module.nix").contains(&format!("\"d {dir} ")), "the Nix module does not make {dir}");
	}
	let users = read("systemd/inlet.sysusers.conf");
	assert!(users.contains(&format!("u {} -", only(&unit, "User="))) && users.contains("g inlet-monitor -"));
}

#[test]
fn the_dockerfile_is_small_unprivileged_and_says_how_it_is() {
	let file = read("container/Dockerfile");
	let stages = values(&file, "FROM ");
	let [build, last] = stages[..] else { panic!("{stages:?}") };
	let rust = env!("CARGO_PKG_RUST_VERSION");
	assert!(build.starts_with(&format!("docker.io/library/rust:{rust}-slim-trixie ")), "{build} is not Rust {rust}");
	assert!(last.contains("distroless") && last.ends_with(":nonroot"), "{last}");
	assert_eq!(only(&file, "USER "), "nonroot");
	assert_eq!(only(&file, "EXPOSE "), "9735");
	let entry = json_command(only(&file, "ENTRYPOINT "));
	takes(&format!("{entry} {}", json_command(only(&file, "CMD "))));
	let (_, check) = only(&file, "HEALTHCHECK ").split_once("CMD ").unwrap();
	takes(&json_command(check));
	for variable in values(&file, "ENV ") {
		assert_eq!(variable, format!("INLET_DATA_DIR={}", only(&file, "VOLUME ")));
	}
	let listens = with_variables(&[]).node.listen;
	assert!(listens.iter().all(|address| address.port() == 9735) && !listens.is_empty());
}

#[test]
fn the_umbrel_app_is_complete_and_its_settings_exist() {
	let app = yaml("umbrel/umbrel-app.yml");
	for field in [
		"manifestVersion",
		"id",
		"name",
		"tagline",
		"category",
		"version",
		"port",
		"description",
		"developer",
		"website",
		"repo",
		"support",
		"gallery",
		"dependencies",
		"releaseNotes",
		"submitter",
		"submission",
	] {
		assert!(!app[field].is_null(), "umbrel-app.yml has no {field}");
	}
	let service = &yaml("umbrel/docker-compose.yml")["services"]["inlet"];
	assert_eq!(service["ports"], serde_json::json!(["9735:9735"]));
	assert_ne!(service["user"], "0:0");
	let environment = service["environment"].as_object().unwrap();
	let filled: Vec<(&str, String)> = environment
		.iter()
		.map(|(name, value)| {
			let value = value.as_str().unwrap();
			let value = value
				.replace("${APP_BITCOIN_NETWORK}", "mainnet")
				.replace("${APP_BITCOIN_RPC_USER}", "umbrel")
				.replace("${APP_BITCOIN_RPC_PASS}", "secret")
				.replace("${APP_BITCOIN_NODE_IP}", "10.21.21.8")
				.replace("${APP_BITCOIN_RPC_PORT}", "8332");
			assert!(!value.contains("${"), "{name}: {value}");
			(name.as_str(), value)
		})
		.collect();
	with_variables(&filled.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>());
}

#[test]
fn the_start9_manifest_is_complete_and_its_commands_exist() {
	let manifest = yaml("start9/manifest.yaml");
	for field in [
		"id",
		"title",
		"version",
		"release-notes",
		"license",
		"wrapper-repo",
		"upstream-repo",
		"build",
		"description",
		"assets",
		"main",
		"health-checks",
		"dependencies",
		"volumes",
		"interfaces",
		"backup",
	] {
		assert!(!manifest[field].is_null(), "manifest.yaml has no {field}");
	}
	for command in [&manifest["main"], &manifest["health-checks"]["node"]] {
		let arguments: Vec<&str> = command["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
		takes(&format!("{} {}", command["entrypoint"].as_str().unwrap(), arguments.join(" ")));
	}
	assert_eq!(manifest["interfaces"]["peer"]["tor-config"]["port-mapping"]["9735"], "9735");
}

#[test]
fn the_nix_files_name_what_is_there() {
	let package = read("nix/package.nix");
	for path in package.split_whitespace().filter_map(|word| word.strip_prefix("deploy/")) {
		assert!(deploy(path).exists(), "nix/package.nix names deploy/{path}");
	}
	takes("inlet run --data-dir /var/lib/inlet --config /nix/store/inlet.toml");
	assert!(read("nix/module.nix").contains("/bin/inlet run --data-dir /var/lib/inlet --config ${settings}"));
}

#[test]
fn the_image_brings_what_it_promises() {
	let firewall = read("image/files/etc/nftables.conf");
	assert!(firewall.contains("policy drop") && firewall.contains("tcp dport 9735 accept"));
	assert!(read("image/files/etc/ssh/sshd_config.d/inlet.conf").contains("PasswordAuthentication no"));
	let build = read("image/build");
	for unit in ["inlet-firstboot", "inlet-console"] {
		assert!(deploy(&format!("image/files/etc/systemd/system/{unit}.service")).exists() && build.contains(unit));
	}
	// What the operator may lay on the boot partition is taken from there, and nothing else.
	let (firstboot, promised) = (read("image/files/usr/lib/inlet/firstboot"), read("image/boot-partition/README.txt"));
	for file in ["authorized_keys", "inlet.toml", "hostname", "network", "pruned-bitcoind"] {
		assert!(firstboot.contains(&format!("$boot/{file}\"")) && promised.contains(file), "{file}");
	}
	let (_, variable) = firstboot.split_once("\"INLET_CHAIN_BACKEND=").unwrap();
	let (backend, _) = variable.split_once('"').unwrap();
	with_variables(&[
		("INLET_CHAIN_BACKEND", &backend.replace("$password", "00ff")),
		("INLET_NODE_NETWORK", "regtest"),
	]);
	let units = "image/files/etc/systemd/system";
	assert_eq!(
		only(&read(&format!("{units}/inlet.service.d/image.conf")), "EnvironmentFile=-"),
		"/etc/inlet/bitcoind.env"
	);
	for unit in ["inlet-chain.service", "bitcoin-knots.service.d/image.conf"] {
		let settings = read(&format!("{units}/{unit}"));
		assert_eq!(only(&settings, "ConditionPathExists="), "/etc/bitcoin/inlet.conf", "{unit}");
	}
	for line in read("image/files/usr/lib/inlet/console").lines().filter_map(|l| l.trim().strip_prefix("inlet ")) {
		takes(&format!("inlet {line}"));
	}
}

const SCRIPTS: [&str; 13] = [
	"debian/build",
	"debian/twice",
	"debian/check",
	"debian/checks",
	"debian/emulate",
	"image/build",
	"image/nuc",
	"image/pi",
	"image/pi5",
	"image/boot",
	"image/files/usr/lib/inlet/firstboot",
	"image/files/usr/lib/inlet/console",
	"image/files/usr/lib/inlet/chain",
];

#[test]
fn every_script_is_one_for_its_shell() {
	for script in SCRIPTS {
		let shell = if read(script).starts_with("#!/bin/sh") { "sh" } else { "bash" };
		let status = Command::new(shell).arg("-n").arg(deploy(script)).status().unwrap();
		assert!(status.success(), "deploy/{script}");
		if let Some(run) = run_if_there("shellcheck", &["--severity=warning", "--shell", shell], &deploy(script)) {
			assert!(run.status.success(), "deploy/{script}: {}", String::from_utf8_lossy(&run.stdout));
		}
	}
}

/// In tenths, as `--threshold` has it: 20 is the 2.0 that the unit stays below.
#[test]
fn the_unit_is_exposed_to_little() {
	let unit = deploy("systemd/inlet.service");
	let arguments = ["security", "--no-pager", "--offline=true", "--threshold=20"];
	if let Some(run) = run_if_there("systemd-analyze", &arguments, &unit) {
		let said = String::from_utf8_lossy(&run.stdout);
		assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
		assert!(said.contains("Overall exposure level for inlet.service"), "{said}");
	}
}

/// What a tool says that not every machine has; without it the test says so and passes.
fn run_if_there(tool: &str, arguments: &[&str], file: &Path) -> Option<Output> {
	match Command::new(tool).args(arguments).arg(file).output() {
		Ok(output) => Some(output),
		Err(error) if error.kind() == ErrorKind::NotFound => {
			eprintln!("{tool} is not on this machine: {} was not tried with it", file.display());
			None
		}
		Err(error) => panic!("{tool}: {error}"),
	}
}
