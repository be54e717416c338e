use super::keys::{RawConfig, SECTIONS, defaults, sections};
use super::*;
use std::os::unix::fs::PermissionsExt;

mod tor;

const NODE: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

/// A data directory with `text` as its config file.
fn dir(text: &str) -> tempfile::TempDir {
	let dir = tempfile::tempdir().unwrap();
	std::fs::write(dir.path().join(FILE_NAME), text).unwrap();
	dir
}

fn flags(dir: &tempfile::TempDir) -> Overrides {
	Overrides { data_dir: Some(dir.path().into()), ..Overrides::default() }
}

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
	let dir = dir(text);
	Config::load(&flags(&dir), vars(variables))
}

fn vars(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
	variables.iter().map(|(n, v)| (n.into(), v.into())).collect()
}

/// Refused, with the blame on this line of the file and this key, and this much of an explanation.
#[track_caller]
fn refused(text: &str, line: usize, key: &str, say: &[&str]) {
	let error = load(text, &[]).expect_err("this must be refused");
	let Origin::File { line: found, .. } = &error.origin else { panic!("wrong origin: {error}") };
	assert_eq!(*found, Some(line), "{error}");
	assert_eq!(error.key.as_deref().unwrap_or_default(), key, "{error}");
	for part in say {
		assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
	}
}

fn uncommented(text: &str) -> String {
	let mut out = String::new();
	for line in text.lines() {
		let setting = line.strip_prefix('#').filter(|rest| !rest.starts_with(' '));
		out.push_str(setting.unwrap_or(line));
		out.push('\n');
	}
	out
}

#[test]
fn the_written_file_means_the_defaults_commented_and_uncommented() {
	let text = default_file(Network::Signet);
	let written: toml::Table = toml::from_str(&text).unwrap();
	assert!(sections(&written).iter().all(|(_, s)| s.as_table().unwrap().is_empty()));
	assert_eq!(toml::from_str::<toml::Table>(&uncommented(&text)).unwrap(), defaults());

	let plain = dir("");
	let expected = Config::load(&flags(&plain), []).unwrap();
	for text in [text.clone(), uncommented(&text)] {
		std::fs::write(plain.path().join(FILE_NAME), text).unwrap();
		assert_eq!(Config::load(&flags(&plain), []).unwrap(), expected);
	}
	assert_eq!(expected.policy, Policy::default());
	assert_eq!(expected.node.network, Network::Signet);
}

#[test]
fn every_setting_is_explained_and_every_explanation_has_a_setting() {
	let explained: Vec<String> =
		SECTIONS.iter().flat_map(|s| s.keys.iter().map(move |(k, _)| format!("{}.{k}", s.name))).collect();
	let mut sorted = explained.clone();
	sorted.sort();
	let defaults = defaults();
	let mut existing: Vec<String> = sections(&defaults)
		.iter()
		.flat_map(|(s, keys)| keys.as_table().unwrap().keys().map(move |k| format!("{s}.{k}")))
		.collect();
	existing.sort();
	assert_eq!(sorted, existing);
}

#[test]
fn the_manual_documents_every_setting() {
	let manual = include_str!("../../docs/config.md");
	for line in markdown().lines() {
		assert!(
			manual.contains(line),
			"node/docs/config.md lacks this line:\n{line}\nthe whole of it:\n{}",
			markdown()
		);
	}
}

#[test]
fn the_example_in_deploy_is_the_written_file() {
	let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/inlet.toml");
	let expected = default_file(Network::Signet);
	if std::env::var_os("INLET_UPDATE_SNAPSHOTS").is_some() {
		std::fs::write(example, &expected).unwrap();
		return;
	}
	let written = std::fs::read_to_string(example).unwrap_or_default();
	assert!(
		written == expected,
		"deploy/inlet.toml is out of date: INLET_UPDATE_SNAPSHOTS=1 cargo test -p inlet example"
	);
}

#[test]
fn the_first_run_writes_a_private_file_once_that_remembers_its_network() {
	let dir = tempfile::tempdir().unwrap();
	let mut flags = flags(&dir);
	flags.network = Some("regtest".into());
	flags.chain = Some("bitcoind:http://alice:hunter2@127.0.0.1:18443".into());
	let config = Config::load(&flags, []).unwrap();
	assert!(config.write_file_if_missing().unwrap());
	let meta = std::fs::metadata(&config.place.file).unwrap();
	assert_eq!(meta.permissions().mode() & 0o777, 0o600);
	assert!(!std::fs::read_to_string(&config.place.file).unwrap().contains("hunter2"));

	std::fs::write(&config.place.file, "[node]\nnetwork = \"regtest\"\nalias = \"mine\"\n").unwrap();
	assert!(!config.write_file_if_missing().unwrap());
	assert!(std::fs::read_to_string(&config.place.file).unwrap().contains("mine"));

	std::fs::write(&config.place.file, default_file(Network::Regtest)).unwrap();
	flags.network = None;
	assert_eq!(Config::load(&flags, []).unwrap().node.network, Network::Regtest);
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
	let dir = dir("[node]\nalias = \"file\"\ncolor = \"#010203\"\n[price]\nfloor_sat = 7\n[log]\nformat = \"json\"\n");
	let mut flags = flags(&dir);
	let variables = [
		("INLET_NODE_ALIAS", "variable"),
		("INLET_PRICE_FLOOR_SAT", "12_000"),
		("INLET_LSPS2_ENABLED", "false"),
		("INLET_LSPS1_TOKENS", "a, b"),
		("INLET_NODE_LISTEN", ""),
		("INLET_DATA_DIR", "/nowhere"),
		("PATH", "/bin"),
	];
	let config = Config::load(&flags, vars(&variables)).unwrap();
	assert_eq!(config.node.alias, "variable");
	assert_eq!(config.node.color, [1, 2, 3]);
	assert_eq!(config.policy.price.floor_sat, inlet_lsp::money::Sat(12_000));
	assert!(!config.policy.lsps2.enabled);
	assert_eq!(config.policy.lsps1.tokens, ["a", "b"]);
	assert!(config.node.listen.is_empty());
	assert_eq!(config.log.format, LogFormat::Json);
	assert_eq!(config.place.socket, dir.path().join("admin.sock"));

	flags.alias = Some("flag".into());
	flags.listen = vec!["127.0.0.1:1,127.0.0.1:2".into(), "[::1]:3".into()];
	flags.log_format = Some("text".into());
	let config = Config::load(&flags, vars(&variables)).unwrap();
	assert_eq!(config.node.alias, "flag");
	assert_eq!(config.node.listen.len(), 3);
	assert_eq!(config.log.format, LogFormat::Text);
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_one() {
	refused("[node]\n\nalais = \"x\"\n", 3, "node.alais", &["did you mean node.alias?"]);
	refused("[node]\nfloor_sat = 3\n", 2, "node.floor_sat", &["section [price]"]);
	refused("[node]\nzzz = 3\n", 2, "node.zzz", &["[node] has:", "announce_addresses"]);
	refused("[lsps3]\n", 1, "", &["[lsps3] is no section", "did you mean [lsps"]);
	refused("# hello\nalias = \"x\"\n", 2, "", &["alias is in no section", "[node]"]);
}

#[test]
fn values_of_the_wrong_kind_or_size_are_refused() {
	refused("[node]\nalias = 3\n", 2, "node.alias", &["cannot be a number", "double quotes"]);
	refused("[price]\nfloor_sat = \"3\"\n", 2, "price.floor_sat", &["cannot be a text", "whole number"]);
	refused("[price]\nfloor_sat = -1\n", 2, "price.floor_sat", &["whole number that is not negative"]);
	refused("[price]\nfloor_sat = 1.5\n", 2, "price.floor_sat", &["a number with a point"]);
	refused("[price]\nfloor_sat = 99999999999999999999\n", 2, "price.floor_sat", &["whole number"]);
	refused("[routing]\ncltv_expiry_delta = 70000\n", 2, "routing.cltv_expiry_delta", &["u16"]);
	refused("[node]\nlisten = \"0.0.0.0:1\"\n", 2, "node.listen", &["list of texts"]);
	refused("[node]\nlisten = [1]\n", 2, "node.listen", &["list of texts"]);
	refused("[lsps1]\nenabled = \"yes\"\n", 2, "lsps1.enabled", &["true or false"]);
	refused("[node]\nalias = \"x\nnetwork = 1", 2, "", &["is no TOML"]);
}

#[test]
fn values_that_make_no_sense_are_refused() {
	refused("[node]\nnetwork = \"testnet\"\n", 2, "node.network", &["testnet4"]);
	refused(&format!("[node]\nalias = \"{}\"\n", "x".repeat(33)), 2, "node.alias", &["33 bytes", "32"]);
	refused("[node]\nalias = \"a\\nb\"\n", 2, "node.alias", &["control character"]);
	refused("[node]\ncolor = \"red\"\n", 2, "node.color", &["#ff8800"]);
	refused("[node]\nlisten = [\"9735\"]\n", 2, "node.listen", &["0.0.0.0:9735"]);
	refused("[node]\nannounce_addresses = [\"0.0.0.0:9735\"]\n", 2, "node.announce_addresses", &["nobody can"]);
	refused("[node]\ngossip = \"rgs\"\n", 2, "node.gossip", &["rgs:URL"]);
	refused("[node]\npeers = [\"02ab@host:1\"]\n", 2, "node.peers", &["no node id", "PUBKEY@HOST:PORT"]);
	refused(&format!("[node]\npeers = [\"{NODE}@host\"]\n"), 2, "node.peers", &["HOST:PORT"]);
	refused("[log]\nlevel = \"inof\"\n", 2, "log.level", &["no level"]);
	refused("[log]\nlevel = \"info,lightning\"\n", 2, "log.level", &["no level"]);
	refused("[lsps1]\nonchain_confirmations = 7\n", 2, "lsps1.onchain_confirmations", &["is 7", "from 1 to 6"]);
	refused("[lsps2]\nopen_secs = 5\n", 2, "lsps2.open_secs", &["is 5", "from 10 to 600"]);
	refused(
		"[lsps1]\nmax_channel_sat = 20_000\nmin_lsp_balance_sat = 30_000\n",
		3,
		"lsps1.min_lsp_balance_sat",
		&["20000"],
	);
	refused("[risk]\nmax_open_total = 8\n", 2, "risk.max_open_total", &["risk.max_open_sales_per_client"]);
	refused("[log]\nformat = \"xml\"\n", 2, "log.format", &["text or json"]);
	refused("[routing]\ninbound_from = \"friends\"\n", 2, "routing.inbound_from", &["anyone, listed or nobody"]);
	refused("[api]\nsocket = \"\"\n", 2, "api.socket", &["107"]);
	refused("[routing]\nfee_ppm = 1_000_001\n", 2, "routing.fee_ppm", &["more than the whole payment"]);
}

#[test]
fn combinations_that_cannot_work_are_refused() {
	refused("[routing]\ninbound_from = \"listed\"\n", 2, "routing.inbound_from", &["inbound_nodes is empty"]);
	refused(&format!("[routing]\ninbound_nodes = [\"{NODE}\"]\n"), 2, "routing.inbound_nodes", &["anyone"]);
	refused("[routing]\ninbound_max_sat = 5\n", 2, "routing.inbound_max_sat", &["inbound_min_sat (100000)"]);
	refused("[routing]\ninbound_min_sat = 999999999\n", 2, "routing.inbound_min_sat", &["inbound_max_sat"]);
	refused("[lsps1]\nmin_channel_sat = 9_000_000\n", 2, "lsps1.min_channel_sat", &["max_channel_sat (5000000)"]);
	refused("[lsps2]\nmax_payment_sat = 1\n", 2, "lsps2.max_payment_sat", &["min_payment_sat"]);
	refused("[lsps2]\npromise_secs = 599\n", 2, "lsps2.promise_secs", &["600 or more"]);
	refused("[lsps2]\ngather_secs = 89\n", 2, "lsps2.gather_secs", &["90 or more"]);
	refused("[risk]\nmax_channel_sat = 50_000\n", 2, "risk.max_channel_sat", &["lsps2.min_channel_sat"]);
	let text = "[node]\nlisten = []\nannounce_addresses = [\"203.0.113.7:9735\"]\n";
	refused(text, 3, "node.announce_addresses", &["node.listen is empty"]);
	refused(
		"[node]\nnetwork = \"regtest\"\n",
		2,
		"chain.backend",
		&["regtest has no public server", "--chain bitcoind:"],
	);
}

#[test]
fn r14_a_file_without_usable_certificates_is_refused_at_the_start() {
	let dir = dir("[notify]\nca_file = \"ca.pem\"\nallow_private = true\n");
	let file = dir.path().join("ca.pem");
	let refused = |say: &str| {
		let error = Config::load(&flags(&dir), []).unwrap_err();
		assert_eq!(error.key.as_deref(), Some("notify.ca_file"));
		assert!(error.to_string().contains(say) && error.to_string().contains("line 2"), "{say:?} is not in: {error}");
		assert!(error.problem.contains(file.to_str().unwrap()), "{error}");
	};
	refused("cannot be read: No such file");
	let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
	for (content, say) in [("", "it is empty"), ("hello", "no -----BEGIN"), (garbage, "cannot be used")] {
		std::fs::write(&file, content).unwrap();
		refused(say);
	}
	std::fs::write(&file, include_str!("../notify/tests/ca.pem")).unwrap();
	let config = Config::load(&flags(&dir), []).unwrap();
	assert!(config.notify.allow_private && config.notify.extra_roots.starts_with(b"-----BEGIN"));
}

#[test]
fn unknown_variables_are_refused_and_wrong_ones_named() {
	let error = load("", &[("INLET_NODE_ALAIS", "x")]).unwrap_err();
	assert_eq!(
		error.to_string(),
		"environment variable INLET_NODE_ALAIS: is no setting of Inlet; did you mean INLET_NODE_ALIAS?"
	);
	let error = load("", &[("INLET_PRICE_FLOOR_SAT", "1.5")]).unwrap_err();
	assert_eq!(error.origin, Origin::Variable("INLET_PRICE_FLOOR_SAT".into()));
	assert_eq!(error.key.as_deref(), Some("price.floor_sat"));
	assert!(load("", &[("INLET_TEST_ANYTHING", "x")]).is_ok());
}

#[test]
fn without_a_data_directory_each_network_has_its_own() {
	let home = tempfile::tempdir().unwrap();
	let home_var = [("HOME", home.path().to_str().unwrap())];
	let place = Place::find(&Overrides::default(), vars(&home_var)).unwrap();
	assert_eq!(place.data_dir, home.path().join(".inlet/signet"));
	let mainnet = Overrides { network: Some("mainnet".into()), ..Overrides::default() };
	let place = Place::find(&mainnet, vars(&home_var)).unwrap();
	assert_eq!((place.network, &place.data_dir), (Network::Bitcoin, &home.path().join(".inlet/mainnet")));

	let signet = home.path().join(".inlet/signet");
	std::fs::create_dir_all(&signet).unwrap();
	std::fs::write(signet.join(FILE_NAME), "[node]\nnetwork = \"mainnet\"\n").unwrap();
	let error = Config::load(&Overrides::default(), vars(&home_var)).unwrap_err();
	assert!(error.to_string().contains("line 2") && error.right.contains("--network mainnet"), "{error}");

	let bitcoin = [home_var[0], ("INLET_NETWORK", "bitcoin")];
	assert_eq!(Place::find(&Overrides::default(), vars(&bitcoin)).unwrap(), place);

	let error = Place::find(&Overrides::default(), []).unwrap_err();
	assert!(error.to_string().contains("--data-dir"), "{error}");
}

#[test]
fn another_file_can_be_named_and_must_exist() {
	let (here, other) = (dir("[node]\nalias = \"here\"\n"), dir("[node]\nalias = \"other\"\n"));
	let mut flags = flags(&here);
	flags.config = Some(other.path().join(FILE_NAME));
	let config = Config::load(&flags, []).unwrap();
	assert_eq!((config.node.alias.as_str(), &config.place.data_dir), ("other", &here.path().to_path_buf()));
	flags.config = Some(other.path().join("missing.toml"));
	let error = Config::load(&flags, []).unwrap_err();
	assert!(error.to_string().contains("missing.toml, which does not exist"), "{error}");
}

#[test]
fn a_client_finds_the_socket_where_the_node_could_not_start() {
	let dir = dir("[node]\nnetwork = \"regtest\"\n[api]\nsocket = \"/run/inlet/admin.sock\"\n");
	assert!(Config::load(&flags(&dir), []).is_err());
	assert_eq!(Place::find(&flags(&dir), []).unwrap().socket, Path::new("/run/inlet/admin.sock"));
}

#[test]
fn a_command_finds_the_systems_node_unless_there_is_one_of_ones_own() {
	let home = tempfile::tempdir().unwrap();
	let system = home.path().join("system.sock");
	let variables = || [("HOME".into(), home.path().as_os_str().to_owned())];
	let socket = |flags: &Overrides| Place::find(flags, variables()).unwrap().socket_or(flags, &system);
	let own = home.path().join(".inlet/signet/admin.sock");
	assert_eq!(socket(&Overrides::default()), own, "there is none");
	std::fs::write(&system, "").unwrap();
	assert_eq!(socket(&Overrides::default()), system);
	let asked = Overrides { network: Some("signet".to_owned()), ..Overrides::default() };
	assert_eq!(socket(&asked), own, "this network was asked for");
	std::fs::create_dir_all(own.parent().unwrap()).unwrap();
	assert_eq!(socket(&Overrides::default()), own, "the node of one's own");
}

#[test]
fn a_second_socket_is_not_the_first() {
	assert_eq!(load("", &[]).unwrap().monitor, None);
	let error = load("[api]\nmonitor_socket = \"admin.sock\"\n", &[]).unwrap_err();
	assert_eq!(error.key.as_deref(), Some("api.monitor_socket"));
	let monitor = load("[api]\nmonitor_socket = \"/run/inlet/monitor.sock\"\n", &[]).unwrap().monitor;
	assert_eq!(monitor.unwrap(), Path::new("/run/inlet/monitor.sock"));
}

#[test]
fn r20_the_limit_on_the_tips_age_is_off_on_regtest_unless_it_is_set() {
	let age = |text: &str| load(text, &[]).unwrap().doubt.max_tip_age.map(|age| age.as_secs());
	let regtest = "[node]\nnetwork = \"regtest\"\n[chain]\nbackend = \"esplora:http://127.0.0.1:1\"\n";
	assert_eq!(age(""), Some(10_800));
	assert_eq!(age("[chain]\nmax_tip_age_secs = 0\n"), None);
	assert_eq!(age(regtest), None);
	assert_eq!(age(&format!("{regtest}max_tip_age_secs = 7\n")), Some(7));
}

#[test]
fn witnesses_are_written_as_backends_or_as_urls_and_their_passwords_stay_secret() {
	let witness = |text: &str| value::witness(text).unwrap();
	let esplora = |url: &str| ChainBackend::Esplora { urls: vec![url.into()] };
	for text in ["https://example.org/api", "esplora:https://example.org/api"] {
		assert_eq!(witness(text), esplora("https://example.org/api"));
	}
	assert_eq!(witness("http://127.0.0.1:3000"), esplora("http://127.0.0.1:3000"));
	assert_eq!(
		witness("http://a:b@127.0.0.1:8332"),
		value::chain_backend("bitcoind:http://a:b@127.0.0.1:8332").unwrap()
	);
	let text = "[chain]\nwitnesses = [\"https://example.org/api\", \"ftp://alice:hunter2@h\"]\n";
	refused(text, 2, "chain.witnesses", &[]);
	assert!(!load(text, &[]).unwrap_err().to_string().contains("hunter2"));
	let many = ["\"https://example.org\""; 9].join(", ");
	refused(&format!("[chain]\nwitnesses = [{many}]\n"), 2, "chain.witnesses", &["9 entries", "at most 8"]);
	refused("[routing]\nforward_delay_ms = 1001\n", 2, "routing.forward_delay_ms", &["1000 or less"]);
}

#[test]
fn chain_backends_are_understood() {
	let chain = |text: &str| value::chain_backend(text).unwrap();
	let urls = |urls: &[&str]| ChainBackend::Esplora { urls: urls.iter().map(|u| u.to_string()).collect() };
	assert_eq!(
		chain("esplora:https://a/api/, http://127.0.0.1:3000"),
		urls(&["https://a/api", "http://127.0.0.1:3000"])
	);
	for url in ["tcp://127.0.0.1:50001", "ssl://electrum.example.org:50002", "ssl://[::1]:50002"] {
		assert_eq!(chain(&format!("electrum:{url}/")), ChainBackend::Electrum { url: url.into() });
	}
	let ChainBackend::Bitcoind { url, auth: BitcoindAuth::UserPass { user, password } } =
		chain("bitcoind:http://alice:p@ss:w/rd@[::1]:8332/")
	else {
		panic!("not by password")
	};
	assert_eq!((url.as_str(), user.as_str(), password.expose()), ("http://[::1]:8332", "alice", "p@ss:w/rd"));
	let cookie = chain("bitcoind:cookie=/srv/b@c/.cookie@http://localhost:8332");
	let auth = BitcoindAuth::Cookie("/srv/b@c/.cookie".into());
	assert_eq!(cookie, ChainBackend::Bitcoind { url: "http://localhost:8332".into(), auth });
	for network in [Network::Bitcoin, Network::Signet, Network::Testnet4] {
		assert!(value::default_backend(network).is_some());
	}
}

#[test]
fn a_password_never_shows() {
	let shown = format!("{:?}", value::chain_backend("bitcoind:http://alice:hunter2@127.0.0.1:8332").unwrap());
	assert!(shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
	let wrong = [
		"hunter2",
		"bitcoin:http://alice:hunter2@127.0.0.1:8332",
		"bitcoind:https://alice:hunter2@127.0.0.1:8332",
		"bitcoind:http://hunter2@127.0.0.1:8332",
		"bitcoind:http://:hunter2@127.0.0.1:8332",
		"bitcoind:http://alice:hunter2@127.0.0.1",
		"bitcoind:http://alice:hunter2@127.0.0.1:99999",
		"bitcoind:http://alice:hunter2@127.0.0.1:0",
		"bitcoind:cookie=hunter2@http://127.0.0.1:8332",
		"bitcoind:cookie=/hunter2",
		"esplora:https://alice:hunter2@host/api",
		"esplora:hunter2",
		"electrum:hunter2",
		"electrum:http://hunter2:50001",
		"electrum:tcp://hunter2",
		"electrum:ssl://hunter2:0",
		"electrum:ssl://alice:hunter2@host:50002",
		"electrum:tcp://a:1,tcp://hunter2:50001",
		"esplora:",
	];
	for value in wrong {
		for text in [format!("[chain]\nbackend = \"{value}\"\n"), format!("[chain]\nbackend = {value}\n")] {
			refused(&text, 2, if text.contains('"') { "chain.backend" } else { "" }, &[]);
			let error = load(&text, &[]).unwrap_err();
			assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
		}
		let error = load("", &[("INLET_CHAIN_BACKEND", value)]).unwrap_err();
		assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
		let error = load(&format!("[chain]\nbackend = [\"{value}\"]\n"), &[]).unwrap_err();
		assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
	}
}

#[test]
fn each_setting_can_come_from_its_variable() {
	let all = defaults();
	for section in SECTIONS {
		let (_, own) = sections(&all).into_iter().find(|(name, _)| name == section.name).unwrap();
		for (key, _) in section.keys {
			let default = &own[*key];
			let text = match default {
				toml::Value::String(text) => text.clone(),
				toml::Value::Array(items) => items.iter().filter_map(|i| i.as_str()).collect::<Vec<_>>().join(","),
				other => other.to_string(),
			};
			let name = super::layers::variable(section.name, key);
			let config = load("", &[(&name, &text)]).unwrap_or_else(|e| panic!("{e}"));
			assert_eq!(config.policy, Policy::default(), "{name}");
		}
	}
	assert_eq!(toml::Table::try_from(RawConfig::default()).unwrap(), defaults());
}

#[test]
fn ldk_says_no_secrets_unless_it_is_named() {
	let ldk = |text: &str, level| super::value::log_level(text).unwrap().would_enable("lightning", &level);
	let (debug, info) = (tracing::Level::DEBUG, tracing::Level::INFO);
	assert!(!ldk("debug", debug) && ldk("debug", info) && !ldk("trace,inlet=debug", debug));
	assert!(!ldk("warn", info) && !ldk("inlet=debug", info));
	assert!(ldk("debug,lightning=debug", debug) && ldk("lightning=debug,info", debug));
}

#[test]
fn tiers_are_sections_and_own_ones_may_be_added() {
	let text = "[tier.new]\nrisk_ppm = 7\n[tier.gold]\nrank = 30\nmax_payment_sat = 5_000_000\n";
	let config = load(text, &[("INLET_TIER_KNOWN_FEE_SHARE_PPM", "900_000")]).unwrap();
	let tier = |name: &str| config.policy.tier.get(name).unwrap().clone();
	assert_eq!((tier("new").risk_ppm.0, tier("known").fee_share_ppm.0), (7, 900_000));
	assert_eq!((tier("gold").rank, tier("gold").earned, tier("gold").max_payment_sat.0), (30, false, 5_000_000));
	assert_eq!(tier("trusted"), Policy::default().tier.get("trusted").unwrap().clone());
	refused("[tier.new]\nrisk = 7\n", 2, "tier.new.risk", &["did you mean tier.new.risk_ppm?"]);
	refused("[tier.gold]\nrank = \"x\"\n", 2, "tier.gold.rank", &["whole number"]);
	refused("[tier.new]\nmin_payments = 101\n", 2, "tier.new.min_payments", &["at most 100"]);
	refused("[tier]\nrank = 1\n", 2, "", &["tier.rank is in no section"]);
}

#[test]
fn a_server_for_the_store_is_checked_and_its_password_never_shown() {
	refused("[storage]\nbackend = \"postgres\"\n", 2, "storage.backend", &["storage.url"]);
	refused("[storage]\nbackend = \"redis\"\n", 2, "storage.backend", &["sqlite or postgres"]);
	refused("[storage]\nlease_secs = 2\n", 2, "storage.lease_secs", &["3 or more"]);
	refused("[storage]\nlease_secs = 500\n", 2, "storage.lease_secs", &["120 or less"]);
	for url in [
		"mysql://a:hunter2@h/d",
		"postgresql://a:hunter2@h:port/d",
		"postgresql://a:hunter2@h",
		"postgresql://x:hunter2@/d",
	] {
		let error = load(&format!("[storage]\nurl = \"{url}\"\n"), &[]).unwrap_err();
		assert_eq!(error.key.as_deref(), Some("storage.url"), "{error}");
		assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
	}
	let text = "[storage]\nbackend = \"postgres\"\nurl = \"postgresql://a:hunter2@h1,h2:6432/d\"\n";
	let config = load(text, &[]).unwrap();
	let StoreBackend::Postgres(server) = &config.store.backend else { panic!("{:?}", config.store) };
	assert_eq!(server.to_string(), "the database d at h1, h2:6432");
	assert!(!format!("{config:?}").contains("hunter2"));
	let config = load("", &[("INLET_STORAGE_URL", "postgresql://a@h/d")]).unwrap();
	assert!(config.store.backend == StoreBackend::Sqlite && config.store.server.is_some());
	let error = load(&format!("{text}ca_file = \"none.pem\"\n"), &[]).unwrap_err();
	assert_eq!(error.key.as_deref(), Some("storage.ca_file"), "{error}");
}
