//! LDK's keys, with the outputs of closed channels going straight to the on-chain wallet.

use crate::onchain::Wallet;
use bitcoin::locktime::absolute::LockTime;
use bitcoin::secp256k1::ecdh::SharedSecret;
use bitcoin::secp256k1::ecdsa::{RecoverableSignature, Signature};
use bitcoin::secp256k1::{All, PublicKey, Scalar, Secp256k1, schnorr};
use bitcoin::{ScriptBuf, Transaction, TxOut};
use lightning::ln::inbound_payment::ExpandedKey;
use lightning::ln::msgs::UnsignedGossipMessage;
use lightning::ln::script::ShutdownScript;
use lightning::offers::invoice::UnsignedBolt12Invoice;
use lightning::sign::{
	EntropySource, InMemorySigner, KeysManager, NodeSigner, OutputSpender, PeerStorageKey, ReceiveAuthKey, Recipient,
	SignerProvider, SpendableOutputDescriptor,
};
use lightning_invoice::RawBolt11Invoice;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// [`KeysManager`], but closing outputs pay to the wallet's addresses.
pub struct Keys {
	inner: KeysManager,
	wallet: Arc<Wallet>,
}

impl Keys {
	/// Keys from the 32 bytes that the seed gives for LDK.
	pub fn new(seed: &[u8; 32], wallet: Arc<Wallet>) -> Self {
		let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
		// The time only makes channel keys unique among runs. `true`: a seed alone finds what a counterparty's close pays us.
		Keys { inner: KeysManager::new(seed, now.as_secs(), now.subsec_nanos(), true), wallet }
	}

	/// Our node id.
	pub fn node_id(&self) -> PublicKey {
		self.inner.get_node_id(Recipient::Node).expect("a node has a node id")
	}

	/// The key under which LDK encrypts what peers store for us.
	pub fn peer_storage_key(&self) -> PeerStorageKey {
		self.inner.get_peer_storage_key()
	}

	/// Signs a text with the node's secret, as `signmessage` of other nodes does: zbase32 of a recoverable signature.
	pub fn sign_text(&self, text: &str) -> String {
		self.inner.sign_message(text.as_bytes()).expect("the node's own keys sign")
	}

	/// The scripts that a peer's close may pay us to, by the seed alone.
	pub fn closed_balance_scripts(&self) -> Vec<ScriptBuf> {
		self.inner.possible_v2_counterparty_closed_balance_spks(&Secp256k1::new())
	}

	fn wallet_script(&self) -> Result<ScriptBuf, ()> {
		self.wallet.destination_script().map_err(|e| {
			tracing::error!(target: "inlet", "no address for a closing channel: {e}");
		})
	}
}

impl EntropySource for Keys {
	fn get_secure_random_bytes(&self) -> [u8; 32] {
		self.inner.get_secure_random_bytes()
	}
}

impl NodeSigner for Keys {
	fn get_expanded_key(&self) -> ExpandedKey {
		self.inner.get_expanded_key()
	}

	fn get_peer_storage_key(&self) -> PeerStorageKey {
		self.inner.get_peer_storage_key()
	}

	fn get_receive_auth_key(&self) -> ReceiveAuthKey {
		self.inner.get_receive_auth_key()
	}

	fn get_node_id(&self, recipient: Recipient) -> Result<PublicKey, ()> {
		self.inner.get_node_id(recipient)
	}

	fn ecdh(&self, recipient: Recipient, other: &PublicKey, tweak: Option<&Scalar>) -> Result<SharedSecret, ()> {
		self.inner.ecdh(recipient, other, tweak)
	}

	fn sign_invoice(&self, invoice: &RawBolt11Invoice, recipient: Recipient) -> Result<RecoverableSignature, ()> {
		self.inner.sign_invoice(invoice, recipient)
	}

	fn sign_bolt12_invoice(&self, invoice: &UnsignedBolt12Invoice) -> Result<schnorr::Signature, ()> {
		self.inner.sign_bolt12_invoice(invoice)
	}

	fn sign_gossip_message(&self, msg: UnsignedGossipMessage) -> Result<Signature, ()> {
		self.inner.sign_gossip_message(msg)
	}

	fn sign_message(&self, msg: &[u8]) -> Result<String, ()> {
		self.inner.sign_message(msg)
	}
}

impl OutputSpender for Keys {
	fn spend_spendable_outputs(
		&self,
		descriptors: &[&SpendableOutputDescriptor],
		outputs: Vec<TxOut>,
		change: ScriptBuf,
		feerate: u32,
		locktime: Option<LockTime>,
		secp: &Secp256k1<All>,
	) -> Result<Transaction, ()> {
		self.inner.spend_spendable_outputs(descriptors, outputs, change, feerate, locktime, secp)
	}
}

impl SignerProvider for Keys {
	type EcdsaSigner = InMemorySigner;

	fn generate_channel_keys_id(&self, inbound: bool, user_channel_id: u128) -> [u8; 32] {
		self.inner.generate_channel_keys_id(inbound, user_channel_id)
	}

	fn derive_channel_signer(&self, channel_keys_id: [u8; 32]) -> InMemorySigner {
		self.inner.derive_channel_signer(channel_keys_id)
	}

	fn get_destination_script(&self, _: [u8; 32]) -> Result<ScriptBuf, ()> {
		self.wallet_script()
	}

	fn get_shutdown_scriptpubkey(&self) -> Result<ShutdownScript, ()> {
		ShutdownScript::try_from(self.wallet_script()?).map_err(|_| ())
	}
}
