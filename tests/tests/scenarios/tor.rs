//! A real Tor, without a network: its control port takes our onion service, its SOCKS port says no.

use anyhow::{Result, ensure};
use inlet::seed::Seed;
use inlet::tor::control::{Control, ControlError};
use inlet::tor::{ControlPlace, OnionKey, SocksError, socks};
use inlet_tests::tor::{Tor, TorNetwork};
use inlet_tests::wallet::text;
use inlet_tests::world::SOON;
use inlet_tests::{Bitcoind, Inlet, InletOptions, eventually, scenario};

/// The service of BIP39's test vector of 32 zero bytes, computed from BIP32, RFC 8032 and rend-spec-v3 by another program.
const ZEROS: &str = "q3cvtl7asugvawqr2hogfsu5oseg2cu4eylswk7otkyxxmhlar6hazyd";

#[test]
fn tor_takes_the_key_of_the_seed_and_offers_it_until_we_go() {
	scenario(async |scratch| {
		let tor = Tor::start(scratch).await?;
		let place = ControlPlace::Unix(tor.control.clone());
		let seed = Seed::from_words(&format!("{}art", "abandon ".repeat(23))).map_err(anyhow::Error::msg)?;
		let key = OnionKey::of(&seed.onion_secret());
		let target = "127.0.0.1:9735".parse()?;
		let mut control = Control::connect(&place).await?;
		control.log_in(None).await?;
		ensure!(control.add_onion(&key, 9735, target).await? == ZEROS);
		ensure!(control.lacks().await?.is_some_and(|lack| lack.contains('%')), "it cannot have a network");

		let mut other = Control::connect(&place).await?;
		let unknown = other.add_onion(&key, 9735, target).await.err();
		ensure!(matches!(unknown, Some(ControlError::Refused { code: 514, .. })), "not logged in: {unknown:?}");
		let mut other = Control::connect(&place).await?;
		other.log_in(None).await?;
		let twice = other.add_onion(&key, 9735, target).await.err();
		ensure!(matches!(twice, Some(ControlError::Refused { code: 550, .. })), "offered twice: {twice:?}");
		drop(control);
		let again = async || Ok(other.add_onion(&key, 9735, target).await.ok());
		let name = eventually(SOON, "Tor sees that who offered it has gone", again).await?;
		ensure!(name == ZEROS, "{name}");
		Ok(())
	});
}

#[test]
fn tors_socks_port_refuses_what_it_cannot_reach() {
	scenario(async |scratch| {
		let tor = Tor::start(scratch).await?;
		let opened = async || Ok(socks::greet(tor.socks).await.ok());
		eventually(SOON, "Tor's SOCKS port is open", opened).await?;
		// A version 3 address whose checksum is wrong, an address of this network, and one that needs the network.
		let wrong = format!("{}d.onion", "a".repeat(55));
		for (host, port) in [(wrong.as_str(), 9735), ("192.168.1.1", 80), ("example.org", 443)] {
			let refused = socks::connect(tor.socks, host, port, host).await.err();
			ensure!(matches!(refused, Some(SocksError::Refused(_))), "{host}: {refused:?}");
		}
		let found = socks::resolve(tor.socks, "example.org").await.err();
		ensure!(matches!(found, Some(SocksError::Refused(_))), "{found:?}");
		Ok(())
	});
}

#[test]
fn a_node_with_tor_announces_its_onion_service_and_says_what_is_wrong_with_it() {
	scenario(async |scratch| {
		let tor = Tor::start(scratch).await?;
		let bitcoind = Bitcoind::start(scratch).await?;
		let config = format!(
			"[tor]\nsocks = \"{}\"\nonly = true\nonion_service = true\ncontrol = \"unix:{}\"\n",
			tor.socks,
			tor.control.display()
		);
		let options = InletOptions { chain: format!("bitcoind:{}", bitcoind.url()), config, ..InletOptions::default() };
		let lsp = Inlet::start(scratch, options).await?;
		let onion = onion_of(&lsp).await?;
		let troubled = async || {
			let status = lsp.json(&["status"]).await?;
			let all = status["attention"].as_array().cloned().unwrap_or_default();
			Ok(all.into_iter().find(|one| one["code"] == "tor"))
		};
		let trouble = eventually(SOON, "the operator is told that Tor has no network", troubled).await?;
		ensure!(text(&trouble, "text")?.contains("onion service"), "{trouble}");
		let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
		let peer = format!("{key}@{}d.onion:9735", "a".repeat(55));
		let said = lsp.say(&["peers", "connect", &peer]).await?;
		ensure!(said.code == Some(1) && said.err.contains("Tor does not get there"), "{said:?}");
		let said = lsp.say(&["peers", "connect", &format!("{key}@example.org:9735")]).await?;
		ensure!(said.code == Some(1) && said.err.contains("Tor"), "nothing is looked up here: {said:?}");
		lsp.stop().await?;
		lsp.resume().await?;
		ensure!(onion_of(&lsp).await? == onion, "it comes from the seed");
		Ok(())
	});
}

async fn onion_of(lsp: &Inlet) -> Result<String> {
	let found = async || {
		let info = lsp.info().await?;
		let all = info["announced"].as_array().cloned().unwrap_or_default();
		Ok(all
			.iter()
			.filter_map(|address| address.as_str())
			.find(|address| address.contains(".onion:"))
			.map(str::to_owned))
	};
	eventually(SOON, "the node has an onion service", found).await
}

/// One node is reached by another at its onion address, over a Tor network on this machine. By hand: seven relays and half a minute.
#[test]
#[ignore = "starts a Tor network"]
fn a_peer_is_reached_at_its_onion_address() {
	scenario(async |scratch| {
		let network = TorNetwork::start(scratch).await?;
		let bitcoind = Bitcoind::start(scratch).await?;
		let node = async |tor: &Tor, more: &str| {
			let config = format!("[tor]\nsocks = \"{}\"\nonly = true\n{more}", tor.socks);
			let options = InletOptions { chain: format!("bitcoind:{}", bitcoind.url()), config, ..Default::default() };
			Inlet::start(scratch, options).await
		};
		let [inner, outer] = &network.tors;
		let offers = format!("onion_service = true\ncontrol = \"unix:{}\"\n", inner.control.display());
		let (reached, reaches) = (node(inner, &offers).await?, node(outer, "").await?);
		let address = format!("{}@{}", reached.node_id(), onion_of(&reached).await?);
		let connected = async || Ok(reaches.connect(&address).await.ok());
		eventually(SOON, "the peer is reached once its descriptor is published", connected).await?;
		let peers = reached.list("peers").await?;
		ensure!(peers.iter().any(|peer| peer["node_id"] == reaches.node_id()), "{peers:?}");
		Ok(())
	});
}
