//! What people see.

use super::*;

#[tokio::test]
async fn print_all() {
	let server = Server::start(Fake::new()).await;
	for line in [
		"status",
		"info",
		"balance",
		"address",
		"utxos",
		"peers",
		"channels",
		"channels show a41e",
		"payments --limit 3",
		"payments show 00000001",
		"orders",
		"orders show 6e",
		"sales",
		"sales show s_",
		"clients",
		"quote 250000sat",
		"quote 250000sat order --explain",
		"ledger",
		"fees",
		"sync",
		"events",
		"events --limit 1",
		"stop",
		"invoice any --description x",
		"offer",
		"peers disconnect 03ab",
		"channels close a41e --yes",
	] {
		let ran = inlet(server.dir.path(), line, None).await;
		println!("===={line}\n{}{}", ran.out, ran.err);
	}
	server.stop().await;
}
