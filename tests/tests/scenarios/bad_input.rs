//! What is wrong is refused with a clear error, nothing is lost, and the node goes on serving.

use crate::steps::LEASE_BLOCKS;
use anyhow::{Result, ensure};
use inlet_tests::world::SOON;
use inlet_tests::{Backend, Bitcoind, Inlet, InletOptions, World, free_port, scenario};
use serde_json::Value;

/// A mainnet address.
const ELSEWHERE: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";

async fn confirmed(world: &World<'_>) -> Result<Value> {
	Ok(world.lsp.balance().await?["onchain"]["confirmed_sat"].clone())
}

#[test]
fn coins_are_not_sent_to_another_network() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let before = confirmed(&world).await?;
		let said = world.lsp.say(&["send", ELSEWHERE, "10000sat", "--yes"]).await?;
		ensure!(said.code == Some(1), "{said:?}");
		ensure!(said.err.contains("regtest"), "it does not say which network it wants: {said:?}");
		let said = world.lsp.say(&["send", "nonsense", "10000sat", "--yes"]).await?;
		ensure!(said.code == Some(1) || said.code == Some(2), "{said:?}");
		ensure!(world.bitcoind.mempool().await?.is_empty());
		ensure!(confirmed(&world).await? == before);
		Ok(())
	});
}

#[test]
fn amounts_without_a_unit_and_too_large_are_refused() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let address = world.bitcoind.address().await?;
		ensure!(world.lsp.say(&["send", &address, "10000", "--yes"]).await?.code == Some(2));
		let said = world.lsp.say(&["send", &address, "20btc", "--yes"]).await?;
		ensure!(said.code == Some(1) && !said.err.is_empty(), "{said:?}");
		ensure!(world.bitcoind.mempool().await?.is_empty());
		Ok(())
	});
}

#[test]
fn a_second_run_on_the_same_directory_is_refused() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let mut command = tokio::process::Command::from(world.lsp.run_command());
		let second = tokio::time::timeout(SOON, command.kill_on_drop(true).output()).await??;
		let error = String::from_utf8_lossy(&second.stderr).into_owned();
		ensure!(second.status.code() == Some(1), "{second:?}");
		ensure!(error.contains("in use") && error.contains(&*world.lsp.data_dir().to_string_lossy()), "{error}");
		ensure!(world.lsp.info().await?["node_id"] == world.lsp.node_id(), "the first one no longer serves");
		Ok(())
	});
}

#[test]
fn an_unreachable_backend_at_the_start_is_said_and_nothing_is_lost() {
	scenario(async |scratch| {
		let port = free_port()?;
		let bitcoind = Bitcoind::start(scratch).await?;
		for chain in [format!("bitcoind:http://a:b@127.0.0.1:{port}"), format!("esplora:http://127.0.0.1:{port}")] {
			let mut lsp = Inlet::prepare(scratch, InletOptions { chain, ..Default::default() }).await?;
			lsp.launch()?;
			let status = lsp.ended(SOON * 2).await?;
			ensure!(status.code() == Some(1), "{status}");
			let log = lsp.log_text();
			ensure!(log.contains(&format!("127.0.0.1:{port}")), "it does not say what it cannot reach: {log}");
			ensure!(!log.contains("a:b@"), "it shows the password: {log}");
			let seed = std::fs::read(lsp.data_dir().join("seed"))?;

			// With a backend, the same directory is a node.
			lsp.use_chain(format!("bitcoind:{}", bitcoind.url()));
			lsp.launch()?;
			lsp.ready(SOON).await?;
			ensure!(std::fs::read(lsp.data_dir().join("seed"))? == seed, "it has another seed now");
			lsp.stop().await?;
		}
		Ok(())
	});
}

#[test]
fn a_wrong_password_for_bitcoind_is_said() {
	scenario(async |scratch| {
		let bitcoind = Bitcoind::start(scratch).await?;
		let chain = format!("bitcoind:http://inlet:wrong-secret@127.0.0.1:{}", bitcoind.port());
		let lsp = Inlet::prepare(scratch, InletOptions { chain, ..Default::default() }).await?;
		lsp.launch()?;
		let status = lsp.ended(SOON * 2).await?;
		ensure!(status.code() == Some(1), "{status}");
		let log = lsp.log_text();
		ensure!(log.contains("credentials") || log.contains("password"), "{log}");
		ensure!(!log.contains("wrong-secret"), "it shows the password: {log}");
		Ok(())
	});
}

#[test]
fn the_cookie_file_of_bitcoind_is_enough() {
	scenario(async |scratch| {
		let bitcoind = Bitcoind::start(scratch).await?;
		let cookie = bitcoind.cookie_file();
		let chain = format!("bitcoind:cookie={}@http://127.0.0.1:{}", cookie.display(), bitcoind.port());
		let lsp = Inlet::start(scratch, InletOptions { chain, ..Default::default() }).await?;
		bitcoind.mine(1).await?;
		lsp.at_height(111, SOON).await?;
		// A restart of bitcoind writes another password into the file.
		bitcoind.stop().await?;
		bitcoind.resume().await?;
		bitcoind.mine(1).await?;
		lsp.at_height(112, SOON * 2).await
	});
}

#[test]
fn an_order_outside_the_limits_is_refused() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let wallet = world.client("wallet").await?;
		// A lease longer than any on offer: ldk-node asks for it without looking.
		ensure!(wallet.order_channel(300_000, 0, 1_000_000).await.is_err());
		ensure!(world.lsp.list("orders").await?.is_empty(), "it was written down");
		let order = wallet.order_channel(300_000, 0, LEASE_BLOCKS).await?;
		ensure!(world.lsp.list("orders").await?.len() == 1, "{order}");
		Ok(())
	});
}

#[test]
fn commands_to_a_node_that_does_not_run_say_so() {
	scenario(async |scratch| {
		let bitcoind = Bitcoind::start(scratch).await?;
		let chain = format!("bitcoind:{}", bitcoind.url());
		let lsp = Inlet::start(scratch, InletOptions { chain, ..Default::default() }).await?;
		ensure!(lsp.say(&["--version"]).await?.out.starts_with("inlet "), "no version");
		ensure!(lsp.say(&["nonsense"]).await?.code == Some(2));
		lsp.stop().await?;
		let said = lsp.say(&["--json", "info"]).await?;
		ensure!(said.code == Some(3), "{said:?}");
		lsp.resume().await?;
		lsp.json(&["stop"]).await?;
		ensure!(lsp.ended(SOON).await?.success());
		Ok(())
	});
}
