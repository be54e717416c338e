//! Tokens that the operator issues: whoever shows one is in its tier. The book has a hash; the token itself is shown
//! once.

use crate::book::{Book, Client, NodeId};
use crate::input::Action;
use crate::policy::Policy;
use crate::time::Timestamp;
use crate::turn::Turn;
use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use bitcoin::hex::{DisplayHex, FromHex};
use serde::{Deserialize, Serialize};

/// A token is named by an id, `t_` and 8 characters. The id is no secret.
pub type TokenId = String;

/// Tokens that are kept in memory. Of more, the oldest revoked ones are forgotten, and no more are issued if none is.
pub const MAX_TOKENS: usize = 2_000;
/// The longest label, in characters.
pub const MAX_LABEL: usize = 80;

const HASH_TAG: &[u8] = b"inlet/token/1";
const SEAL_TAG: &[u8] = b"inlet/token/seal/1";

/// A token, without what makes it one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
	/// Its id.
	pub id: TokenId,
	/// [`hash`] of the token.
	pub hash: String,
	/// The tier that it gives.
	pub tier: String,
	/// What the operator calls it.
	#[serde(default)]
	pub label: String,
	/// How many clients may use it; `None`: any number.
	#[serde(default)]
	pub max_uses: Option<u32>,
	/// How many do.
	#[serde(default)]
	pub uses: u32,
	/// No further client may use it from then on.
	#[serde(default)]
	pub expires_at: Option<Timestamp>,
	/// When it was issued.
	pub created_at: Timestamp,
	/// It is worth nothing since then, also to those who used it before.
	#[serde(default)]
	pub revoked_at: Option<Timestamp>,
}

impl Token {
	/// May one more client use it?
	pub fn has_use_left(&self, now: Timestamp) -> bool {
		let is_over = self.expires_at.is_some_and(|at| at <= now) || self.revoked_at.is_some();
		!is_over && self.max_uses.is_none_or(|most| self.uses < most)
	}
}

/// What the book keeps of a token, in lower-case hexadecimal digits. A token has 128 random bits: nobody tries them
/// all.
pub fn hash(token: &str) -> String {
	let mut engine = sha256::Hash::engine();
	engine.input(HASH_TAG);
	engine.input(token.as_bytes());
	sha256::Hash::from_engine(engine).to_byte_array().to_lower_hex_string()
}

/// A token as an order keeps it, since bLIP-51 has us say it back: readable with the `key` only.
pub fn seal(key: &[u8; 32], order: &str, token: &str) -> String {
	mask(key, order, token.as_bytes()).to_lower_hex_string()
}

/// What was [sealed](seal); empty if it was not with this key.
pub fn unseal(key: &[u8; 32], order: &str, sealed: &str) -> String {
	let bytes = Vec::<u8>::from_hex(sealed).unwrap_or_default();
	String::from_utf8(mask(key, order, &bytes)).unwrap_or_default()
}

fn mask(key: &[u8; 32], order: &str, bytes: &[u8]) -> Vec<u8> {
	let block = |number: u64| {
		let mut engine = HmacEngine::<sha256::Hash>::new(key);
		engine.input(SEAL_TAG);
		engine.input(&number.to_be_bytes());
		engine.input(order.as_bytes());
		Hmac::<sha256::Hash>::from_engine(engine).to_byte_array()
	};
	let stream = (0_u64..).flat_map(block);
	bytes.iter().zip(stream).map(|(byte, mask)| byte ^ mask).collect()
}

impl Book {
	/// All tokens in memory, by id.
	pub fn tokens(&self) -> impl Iterator<Item = &Token> {
		self.tokens.values()
	}

	/// One token.
	pub fn token(&self, id: &str) -> Option<&Token> {
		self.tokens.get(id)
	}

	/// The tier that the client has by its token.
	pub(crate) fn tokens_tier(&self, client: &Client) -> Option<&String> {
		let token = self.token(client.token.as_ref()?)?;
		token.revoked_at.is_none().then_some(&token.tier)
	}

	pub(crate) fn apply_token(&mut self, token: Token) {
		self.tokens.insert(token.id.clone(), token);
		while self.tokens.len() > MAX_TOKENS {
			let revoked = self.tokens.values().filter_map(|token| Some((token.revoked_at?, token.id.clone())));
			let Some((_, oldest)) = revoked.min() else { break };
			self.tokens.remove(&oldest);
		}
	}
}

/// The token that a client shows is none of ours, or is over, or one is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unrecognized;

/// What a request's token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
	/// None, and none is needed.
	None,
	/// One that the config lists.
	Listed,
	/// One that was issued: the client is in its tier from now on.
	Issued,
}

/// Checks what a client shows, and takes note of it. `listed` are the config's.
pub(crate) fn check(
	turn: &mut Turn<'_>,
	peer: NodeId,
	listed: &[String],
	required: bool,
	shown: Option<&str>,
) -> Result<Shown, Unrecognized> {
	let Some(shown) = shown.filter(|shown| !shown.is_empty()) else {
		return if listed.is_empty() && !required { Ok(Shown::None) } else { Err(Unrecognized) };
	};
	if listed.iter().any(|token| token == shown) {
		return Ok(Shown::Listed);
	}
	let hash = hash(shown);
	let mut token = turn.book.tokens().find(|token| token.hash == hash).cloned().ok_or(Unrecognized)?;
	let mut client = turn.client(&peer);
	if client.token.as_ref() == Some(&token.id) && token.revoked_at.is_none() {
		return Ok(Shown::Issued);
	}
	if !token.has_use_left(turn.now) {
		return Err(Unrecognized);
	}
	token.uses = token.uses.saturating_add(1);
	client.note(turn.now, "token", format!("{} gives it tier {}", token.id, token.tier));
	client.token = Some(token.id.clone());
	turn.put_client(client);
	turn.put_token(token);
	Ok(Shown::Issued)
}

/// The operator issues a token. Nothing happens if there is one of this id, the tier is not there, or there are too
/// many.
pub(crate) fn issue(turn: &mut Turn<'_>, token: &Token) {
	let is_full = turn.book.tokens().filter(|token| token.revoked_at.is_none()).count() >= MAX_TOKENS;
	if turn.book.token(&token.id).is_some() || !is_possible(turn.policy(), token) || is_full {
		return;
	}
	let text = format!("token {} for tier {} is issued", token.id, token.tier);
	turn.put_token(Token { uses: 0, revoked_at: None, created_at: turn.now, ..token.clone() });
	turn.act(Action::Warn { code: "token", text });
}

fn is_possible(policy: &Policy, token: &Token) -> bool {
	policy.tier.get(&token.tier).is_some() && token.label.chars().count() <= MAX_LABEL
}

/// The operator revokes a token: whoever used it falls back to the tier that it has earned.
pub(crate) fn revoke(turn: &mut Turn<'_>, id: &str) {
	let Some(mut token) = turn.book.token(id).filter(|token| token.revoked_at.is_none()).cloned() else { return };
	token.revoked_at = Some(turn.now);
	let text = format!("token {id} is revoked; {} clients used it", token.uses);
	turn.put_token(token);
	turn.act(Action::Warn { code: "token", text });
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_sealed_token_is_read_with_the_key_and_for_its_order_only() {
		let token = "inlet_0123456789ABCDEFGHJKMNPQRS_and_more_than_one_block_of_thirty_two_bytes";
		let sealed = seal(&[1; 32], "order", token);
		assert_eq!(unseal(&[1; 32], "order", &sealed), token);
		assert!(!sealed.contains("inlet_"));
		assert_ne!(unseal(&[2; 32], "order", &sealed), token);
		assert_ne!(unseal(&[1; 32], "other", &sealed), token);
		assert_eq!(unseal(&[1; 32], "order", "not hex"), "");
	}
}
