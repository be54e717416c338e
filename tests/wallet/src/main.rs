//! A real wallet that is not Inlet's (ldk-node), driven over its standard input by Inlet's tests.
//!
//! Each line of standard input is a command, `{"id":1,"cmd":"address"}`; each is answered, in order, by one line of
//! standard output, `{"id":1,"ok":{...}}` or `{"id":1,"error":"..."}`. Lines `{"event":{...}}` come in between as
//! things happen. The first line is `{"ready":{"node_id":"..."}}`. It ends when its standard input ends, so that it
//! never outlives the test that drives it.
//!
//! `play` is another matter: see [`play`].

mod commands;
mod options;
mod play;
mod store;
mod view;

use anyhow::Result;
use ldk_node::Node;
use serde_json::{Value, json};
use std::io::{BufRead, Write, stdin, stdout};
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
	match run() {
		Ok(()) => ExitCode::SUCCESS,
		Err(error) => {
			eprintln!("wallet: {error:#}");
			ExitCode::FAILURE
		}
	}
}

fn run() -> Result<()> {
	let args: Vec<String> = std::env::args().skip(1).collect();
	if let [first, rest @ ..] = args.as_slice()
		&& first == "play"
	{
		return play::play(rest);
	}
	let node = Arc::new(options::Options::from_args(args.into_iter())?.build()?);
	node.start()?;
	say(&json!({ "ready": { "node_id": node.node_id().to_string() } }))?;
	let telling = Arc::clone(&node);
	// Detached: it waits for events as long as the process lives.
	std::thread::Builder::new().name("events".into()).spawn(move || tell_events(&telling))?;
	for line in stdin().lock().lines() {
		let line = line?;
		let request: Value = serde_json::from_str(&line)?;
		let name = request["cmd"].as_str().unwrap_or_default();
		let reply = match commands::run(&node, name, &request) {
			Ok(ok) => json!({ "id": request["id"], "ok": ok }),
			Err(error) => json!({ "id": request["id"], "error": format!("{name}: {error:#}") }),
		};
		say(&reply)?;
		if name == "stop" {
			break;
		}
	}
	node.stop()?;
	Ok(())
}

fn tell_events(node: &Node) {
	loop {
		let event = node.wait_next_event();
		// When nobody reads any more, the main thread sees the end of its input.
		if say(&json!({ "event": view::event(&event) })).is_err() || node.event_handled().is_err() {
			return;
		}
	}
}

fn say(line: &Value) -> Result<()> {
	let mut out = stdout().lock();
	writeln!(out, "{line}")?;
	Ok(out.flush()?)
}
