//! The document, the routes and what is really said agree.
//!
//! `openapi.json` is made here, from the types and their documentation: `INLET_UPDATE_SNAPSHOTS=1 cargo test -p inlet openapi`.

use super::schema::check;
use super::*;
use crate::api::routes::endpoints;
use crate::control::*;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use std::collections::BTreeSet;

struct Document {
	requests: SchemaGenerator,
	replies: SchemaGenerator,
	paths: serde_json::Map<String, Value>,
}

impl Document {
	fn new() -> Document {
		let settings = || SchemaSettings::draft2020_12().with(|s| s.definitions_path = "/components/schemas".into());
		Document {
			requests: settings().for_deserialize().into_generator(),
			replies: settings().for_serialize().into_generator(),
			paths: serde_json::Map::new(),
		}
	}

	fn add(&mut self, method: &str, path: &str, id: &str, summary: &str, mut parts: Value, reply: Value) {
		let problem = self.replies.subschema_for::<Problem>().to_value();
		let refused = json!({ "description": "Refused; says why and what to do.",
			"content": { "application/problem+json": { "schema": problem } } });
		let operation = parts.as_object_mut().unwrap();
		if path.contains("{id}") {
			let parameter = json!({ "name": "id", "in": "path", "required": true, "schema": { "type": "string" },
				"description": "An id, or a beginning of it that fits one thing only." });
			operation.entry("parameters").or_insert(json!([])).as_array_mut().unwrap().insert(0, parameter);
		}
		operation.insert("operationId".into(), id.into());
		operation.insert("summary".into(), summary.into());
		operation.insert(
			"responses".into(),
			json!({ "200": { "description": "Done.", "content": reply }, "default": refused }),
		);
		let methods = self.paths.entry(path).or_insert(json!({})).as_object_mut().unwrap();
		assert!(methods.insert(method.to_lowercase(), parts).is_none(), "{method} {path} twice");
	}

	fn reply<T: JsonSchema>(&mut self) -> Value {
		json!({ "application/json": { "schema": self.replies.subschema_for::<T>() } })
	}

	fn get<T: JsonSchema>(&mut self, path: &str, id: &str, summary: &str) {
		let reply = self.reply::<T>();
		self.add("GET", path, id, summary, json!({}), reply);
	}

	fn list<T: JsonSchema + Listed>(&mut self, path: &str, id: &str, summary: &str) {
		let reply = page::<T>(&mut self.replies);
		self.add("GET", path, id, summary, json!({ "parameters": list_parameters() }), reply);
	}

	fn change<T: JsonSchema>(&mut self, method: &str, path: &str, id: &str, summary: &str) {
		let reply = self.reply::<T>();
		self.add(method, path, id, summary, json!({}), reply);
	}

	fn send<B: JsonSchema, T: JsonSchema>(&mut self, method: &str, path: &str, id: &str, summary: &str) {
		let body = self.requests.subschema_for::<B>();
		let body = json!({ "requestBody": { "content": { "application/json": { "schema": body } } } });
		let reply = self.reply::<T>();
		self.add(method, path, id, summary, body, reply);
	}

	fn finish(mut self) -> Value {
		let mut schemas = self.requests.take_definitions(true);
		schemas.extend(self.replies.take_definitions(true));
		json!({
			"openapi": "3.1.0",
			"info": {
				"title": "Inlet's admin API",
				"version": "1",
				"description": "HTTP/1.1 over the Unix socket admin.sock in the data directory. Fields may be added; none is \
					renamed or removed within /v1.",
				"license": { "name": "MIT OR Apache-2.0" },
			},
			"paths": self.paths,
			"components": { "schemas": schemas },
		})
	}
}

fn page<T: JsonSchema + Listed>(replies: &mut SchemaGenerator) -> Value {
	json!({ "application/json": { "schema": {
		"type": "object",
		"properties": {
			T::NOUN: { "type": "array", "items": replies.subschema_for::<T>() },
			"next": { "type": ["string", "null"], "description": "The cursor of the page that follows." },
		},
		"required": [T::NOUN, "next"],
	} } })
}

fn parameter(name: &str, schema: Value, description: &str) -> Value {
	json!({ "name": name, "in": "query", "required": false, "schema": schema, "description": description })
}

fn list_parameters() -> Vec<Value> {
	let limit = json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT });
	vec![
		parameter("limit", limit, "How many."),
		parameter("cursor", json!({ "type": "string" }), "`next` of the page before."),
	]
}

fn document() -> Value {
	let mut d = Document::new();
	d.add(
		"GET",
		"/v1/openapi.json",
		"openapi",
		"This document.",
		json!({}),
		json!({ "application/json": { "schema": { "type": "object" } } }),
	);
	d.add(
		"GET",
		"/metrics",
		"metrics",
		"Figures for Prometheus.",
		json!({}),
		json!({ "text/plain": { "schema": { "type": "string" } } }),
	);
	d.get::<Status>("/v1/status", "status", "The node at a glance.");
	d.get::<Info>("/v1/info", "info", "What this node is.");
	d.get::<SyncState>("/v1/sync", "sync", "Where the node stands with the chain.");
	d.get::<Fees>("/v1/fees", "fees", "The feerates in use and how old they are.");
	d.get::<Storage>("/v1/storage", "storage", "What the store has written, and for what.");
	d.get::<Backup>("/v1/backup", "backup", "How the backup stands.");
	d.change::<Backup>("POST", "/v1/backup", "backupNow", "Begins a snapshot on each target, and returns at once.");
	d.get::<Doctor>("/v1/doctor", "doctor", "A look at everything that can be wrong.");
	d.change::<Stopping>("POST", "/v1/stop", "stop", "Begins a graceful stop.");
	d.get::<Balance>("/v1/balance", "balance", "All money, on-chain and in channels.");
	d.change::<NewAddress>("POST", "/v1/addresses", "newAddress", "A fresh address of the wallet.");
	d.send::<SendRequest, Sent>("POST", "/v1/send", "send", "Sends coins on-chain, or says what that would cost.");
	d.list::<Utxo>("/v1/utxos", "utxos", "The coins of the wallet.");
	d.list::<Peer>("/v1/peers", "peers", "Peers.");
	d.send::<ConnectRequest, Peer>("POST", "/v1/peers", "connect", "Connects to a peer, now and after a restart.");
	d.change::<Disconnected>("DELETE", "/v1/peers/{id}", "disconnect", "Disconnects a peer for good.");
	d.list::<Channel>("/v1/channels", "channels", "Channels that are not closed.");
	d.send::<OpenChannelRequest, Opening>("POST", "/v1/channels", "openChannel", "Opens a channel.");
	d.get::<Channel>("/v1/channels/{id}", "channel", "One channel.");
	d.send::<CloseRequest, Closing>(
		"POST",
		"/v1/channels/{id}/close",
		"closeChannel",
		"Closes a channel with its peer.",
	);
	d.send::<CloseRequest, Closing>(
		"POST",
		"/v1/channels/{id}/force-close",
		"forceCloseChannel",
		"Closes a channel without its peer: the money comes back after a delay.",
	);
	d.send::<ChannelPolicyRequest, Channel>(
		"PATCH",
		"/v1/channels/{id}/policy",
		"setChannelPolicy",
		"Sets what forwarding over a channel costs; what is left out stays.",
	);
	d.send::<InvoiceRequest, Invoice>("POST", "/v1/invoices", "invoice", "Makes a BOLT 11 invoice.");
	d.send::<OfferRequest, Offer>("POST", "/v1/offers", "offer", "Makes a BOLT 12 offer.");
	d.list::<Payment>("/v1/payments", "payments", "Payments in and out, newest first.");
	d.send::<PayRequest, Payment>("POST", "/v1/payments", "pay", "Pays, and waits for the outcome.");
	d.get::<Payment>("/v1/payments/{id}", "payment", "One payment.");
	d.list::<Order>("/v1/orders", "orders", "Channels ordered with LSPS1, newest first.");
	d.get::<OrderDetail>("/v1/orders/{id}", "order", "One order with its history.");
	d.list::<Sale>("/v1/sales", "sales", "Channels sold just in time with LSPS2, newest first.");
	d.get::<SaleDetail>("/v1/sales/{id}", "sale", "One sale with its history.");
	d.list::<Client>("/v1/clients", "clients", "Clients.");
	d.get::<HoldTimes>("/v1/holds", "holds", "For how long payments are held.");
	d.get::<ClientDetail>("/v1/clients/{id}", "client", "A client, what holds for it and why.");
	d.send::<ClientSettings, ClientDetail>(
		"PATCH",
		"/v1/clients/{id}",
		"setClient",
		"Sets what holds for a client; what is left out stays.",
	);
	let forget = "Forgets all that was set for a client.";
	d.change::<ClientDetail>("POST", "/v1/clients/{id}/clear", "clearClient", forget);
	d.list::<Token>("/v1/tokens", "tokens", "Tokens, newest first.");
	d.send::<TokenRequest, IssuedToken>("POST", "/v1/tokens", "issueToken", "Issues a token, and shows it this once.");
	d.get::<TokenDetail>("/v1/tokens/{id}", "token", "A token and who uses it.");
	let revoke = "Revokes a token: who uses it falls back to the tier that it has earned.";
	d.change::<TokenDetail>("POST", "/v1/tokens/{id}/revoke", "revokeToken", revoke);
	quote(&mut d);
	let ledger = d.reply::<Ledger>();
	let parameters = json!({ "parameters": list_parameters() });
	d.add("GET", "/v1/ledger", "ledger", "What was earned and spent, newest first.", parameters, ledger);
	d.get::<Capital>("/v1/capital", "capital", "Where the capital is, and how many channels it still makes.");
	d.get::<ReclaimPlan>(
		"/v1/capital/reclaim",
		"reclaimPlan",
		"Which idle channels could give their capital back. Nothing is done.",
	);
	d.send::<ReclaimRequest, Reclaimed>(
		"POST",
		"/v1/capital/reclaim",
		"reclaim",
		"Tells the clients of these channels that they are idle, or closes them, as the plan says. Others are left alone.",
	);
	let (check, report) = (d.reply::<LedgerCheck>(), d.reply::<LedgerReport>());
	let wait = json!({ "parameters": [parameter("wait_secs", json!({ "type": "integer", "minimum": 0, "maximum": MAX_CHECK_WAIT_SECS, "default": 0 }), "How long to wait for what is just being settled.")] });
	d.add("GET", "/v1/ledger/check", "ledgerCheck", "Compares the ledger with LDK's and BDK's balances.", wait, check);
	let by = json!({ "parameters": [parameter("by", json!({ "enum": ["client", "channel", "tier", "month"], "default": "client" }), "What has a line.")] });
	d.add("GET", "/v1/ledger/report", "ledgerReport", "What each client, channel, tier or month brought.", by, report);
	events(&mut d);
	d.finish()
}

fn quote(d: &mut Document) {
	let schema = d.requests.root_schema_for::<QuoteRequest>().to_value();
	d.requests.subschema_for::<QuoteKind>();
	let required = schema["required"].as_array().unwrap();
	let parameters: Vec<Value> = schema["properties"]
		.as_object()
		.unwrap()
		.iter()
		.map(|(name, schema)| {
			let required = required.contains(&json!(name));
			json!({ "name": name, "in": "query", "required": required, "schema": schema })
		})
		.collect();
	let reply = d.reply::<Quote>();
	d.add(
		"GET",
		"/v1/quote",
		"quote",
		"What a channel would cost a client now.",
		json!({ "parameters": parameters }),
		reply,
	);
}

fn events(d: &mut Document) {
	let mut reply = page::<Event>(&mut d.replies);
	reply["text/event-stream"] = json!({ "schema": { "type": "string" } });
	let mut parameters = list_parameters();
	let follow = "A stream of server-sent events, as with `Accept: text/event-stream`; `data` is an Event.";
	parameters.push(parameter("follow", json!({ "type": "boolean" }), follow));
	let since = "With `follow`: begin after the event with this id, as with `Last-Event-ID`.";
	parameters.push(parameter("since", json!({ "type": "integer", "minimum": 0 }), since));
	let summary = "What happened, newest first; or what happens, as a stream.";
	d.add("GET", "/v1/events", "events", summary, json!({ "parameters": parameters }), reply);
}

/// One line for each operation and for each field of a schema: readable in a diff, and not much larger than need be.
fn text(value: &Value, depth: usize) -> String {
	let Value::Object(fields) = value else { return value.to_string() };
	if depth == 5 || fields.is_empty() || fields.contains_key("operationId") || fields.contains_key("enum") {
		return value.to_string();
	}
	let indent = "\t".repeat(depth + 1);
	let lines: Vec<String> =
		fields.iter().map(|(name, field)| format!("{indent}{}: {}", json!(name), text(field, depth + 1))).collect();
	format!("{{\n{}\n{}}}", lines.join(",\n"), "\t".repeat(depth))
}

fn served() -> Value {
	serde_json::from_str(OPENAPI).unwrap()
}

/// `METHOD path` of all that the document describes.
fn described(document: &Value) -> BTreeSet<String> {
	let paths = document["paths"].as_object().unwrap();
	paths
		.iter()
		.flat_map(|(path, methods)| {
			methods.as_object().unwrap().keys().map(move |m| format!("{} {path}", m.to_uppercase()))
		})
		.collect()
}

#[test]
fn openapi_is_what_the_types_say() {
	let expected = text(&document(), 0) + "\n";
	if std::env::var_os("INLET_UPDATE_SNAPSHOTS").is_some() {
		std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/openapi.json"), &expected).unwrap();
		return;
	}
	assert!(OPENAPI == expected, "openapi.json is out of date: INLET_UPDATE_SNAPSHOTS=1 cargo test -p inlet openapi");
}

#[test]
fn openapi_describes_the_routes_and_no_others() {
	let routes: BTreeSet<String> = endpoints().iter().map(|e| format!("{} {}", e.method, e.path)).collect();
	assert_eq!(described(&served()), routes);
}

#[test]
fn docs_name_every_route_code_of_exit_and_command() {
	let docs = include_str!("../../../docs/api.md");
	for route in described(&served()) {
		assert!(docs.contains(&format!("`{route}`")), "docs/api.md does not name {route}");
	}
	let cli = <crate::cli::Cli as clap::CommandFactory>::command();
	for command in cli.get_subcommands() {
		let name = command.get_name();
		assert!(docs.contains(&format!("`inlet {name}")), "docs/api.md does not name inlet {name}");
	}
}

#[tokio::test]
async fn openapi_describes_what_is_really_said() {
	let document = served();
	let server = Server::start(Fake::new()).await;
	for route in described(&document) {
		let (method, path) = route.split_once(' ').unwrap();
		let answer = server.call(method, &example_path(method, path), example_body(&route)).await;
		assert_eq!(answer.status, 200, "{route}: {}", answer.body);
		if path == "/metrics" {
			continue;
		}
		let operation = &document["paths"][path][method.to_lowercase()];
		let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
		check(&document, schema, &answer.json(), &route).unwrap();
	}
	let refused = server.get("/v1/nothing").await.json();
	check(&document, &json!({ "$ref": "#/components/schemas/Problem" }), &refused, "problem").unwrap();
	server.stop().await;
}

fn example_path(method: &str, path: &str) -> String {
	let id = match path.split('/').nth(2).unwrap_or_default() {
		"payments" => "00000001",
		"orders" => "6e7f",
		"sales" => "s_7",
		"peers" => "03ab",
		"channels" => "a41e",
		"clients" => "03ab",
		"tokens" => "t_7Q",
		_ => "",
	};
	let query = if path == "/v1/quote" && method == "GET" { "?kind=jit&size_sat=250000" } else { "" };
	path.replace("{id}", id) + query
}

fn example_body(route: &str) -> &'static str {
	match route {
		"POST /v1/send" => "{\"address\":\"a\",\"amount_sat\":1000}",
		"POST /v1/peers" => "{\"node_id\":\"02\",\"address\":\"h:1\"}",
		"POST /v1/channels" => "{\"node_id\":\"02\",\"capacity_sat\":100000}",
		"POST /v1/invoices" => "{\"amount_msat\":1000,\"description\":\"x\",\"expiry_secs\":60}",
		"POST /v1/offers" => "{\"amount_msat\":1000,\"expiry_secs\":60}",
		"POST /v1/capital/reclaim" => "{\"channels\":[\"9c1e\"]}",
		"POST /v1/tokens" => "{\"tier\":\"known\"}",
		"POST /v1/payments" => "{\"to\":\"lnbc1\"}",
		_ => "",
	}
}
