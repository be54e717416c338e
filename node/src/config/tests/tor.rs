use super::*;
use crate::tor::{ControlPlace, Way};

const ONION: &str = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrstuvwd.onion";
const TOR: &str = "socks = \"127.0.0.1:9050\"";

#[test]
fn tor_is_off_until_it_is_set() {
	assert_eq!(load("", &[]).unwrap().tor, TorConfig::default());
	let text = format!(
		"[tor]\n{TOR}\nonly = true\nonion_service = true\ncontrol = \"unix:/run/tor/control\"\npassword = \"pw\""
	);
	let tor = load(&text, &[]).unwrap().tor;
	let way = Way { socks: Some("127.0.0.1:9050".parse().unwrap()), only: true };
	assert_eq!((tor.way, tor.service), (way, Some(ControlPlace::Unix("/run/tor/control".into()))));
	assert_eq!(load(&text, &[]).unwrap().backup.way, way, "backups go the same way");
	// Set up, and not wanted.
	assert_eq!(load("[tor]\ncontrol = \"127.0.0.1:9051\"", &[]).unwrap().tor.service, None);
}

#[test]
fn half_of_tor_is_refused() {
	refused("[tor]\nsocks = \"tor:9050\"", 2, "tor.socks", &["127.0.0.1:9050"]);
	refused("[tor]\nonly = true", 2, "tor.only", &["tor.socks"]);
	refused("[tor]\nonion_service = true", 2, "tor.onion_service", &["tor.control"]);
	refused("[tor]\ncontrol = \"/run/tor/control\"", 2, "tor.control", &["unix:/PATH"]);
	refused("[tor]\ncontrol = \"unix:run/tor\"", 2, "tor.control", &["unix:/PATH"]);
	let deaf = "[node]\nlisten = []\n[tor]\ncontrol = \"127.0.0.1:9051\"\nonion_service = true";
	refused(deaf, 5, "tor.onion_service", &["node.listen", "127.0.0.1:9735"]);
	refused("[tor]\npassword = \"a\\nQUIT\"", 2, "tor.password", &["control character"]);
}

#[test]
fn an_onion_address_without_tor_is_refused_wherever_it_stands() {
	let onion = |setting: &str| setting.replace("ONION", ONION);
	for (text, key) in [
		("[chain]\nbackend = \"esplora:https://example.org/api,http://ONION/api\"", "chain.backend"),
		("[chain]\nbackend = \"electrum:tcp://ONION:50001\"", "chain.backend"),
		("[chain]\nbackend = \"bitcoind:http://u:p@ONION:8332\"", "chain.backend"),
		("[chain]\nwitnesses = [\"http://ONION/api\"]", "chain.witnesses"),
		("[node]\ngossip = \"rgs:http://ONION/snapshot\"", "node.gossip"),
		(&format!("[node]\npeers = [\"{NODE}@ONION:9735\"]"), "node.peers"),
		("[backup]\ntargets = [\"webdav:http://u:p@ONION/dav\"]", "backup.targets"),
	] {
		let text = onion(text);
		refused(&text, 2, key, &["onion address", "tor.socks"]);
		load(&format!("{text}\n[tor]\n{TOR}"), &[]).unwrap();
	}
	refused("[node]\nannounce_addresses = [\"abc.onion:9735\"]", 2, "node.announce_addresses", &["version 3"]);
	load(&onion("[node]\nannounce_addresses = [\"ONION:9735\"]"), &[]).unwrap();
}

#[test]
fn with_nothing_but_tor_no_name_of_ones_own_network_can_be_meant() {
	for name in ["bitcoind", "umbrel.local", "nas.lan", "node.home.arpa"] {
		let text = format!("[chain]\nbackend = \"bitcoind:http://u:p@{name}:8332\"");
		load(&format!("{text}\n[tor]\n{TOR}"), &[]).unwrap();
		refused(&format!("{text}\n[tor]\n{TOR}\nonly = true"), 2, "chain.backend", &["tor.only", "IP address"]);
	}
	for good in ["192.168.1.5", "localhost", "[fd00::5]", "example.org"] {
		load(&format!("[chain]\nbackend = \"bitcoind:http://u:p@{good}:8332\"\n[tor]\n{TOR}\nonly = true"), &[])
			.unwrap();
	}
	let database = |host: &str| format!("[storage]\nurl = \"postgresql://u:p@{host}/db\"\n[tor]\n{TOR}\nonly = true");
	for host in ["db.example.org", "8.8.8.8", "127.0.0.1,db.example.org"] {
		refused(&database(host), 2, "storage.url", &["tor.only"]);
	}
	load(&database("10.0.0.7,127.0.0.1"), &[]).unwrap();
	load(
		"[storage]\nurl = \"postgresql://u@/db?host=/run/postgresql\"\n[tor]\nsocks = \"127.0.0.1:9050\"\nonly = true",
		&[],
	)
	.unwrap();
}
