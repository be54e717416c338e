//! A thin node that may keep its signature of a new channel's first commitment to itself: LDK's own handler, whose
//! `funding_signed` is dropped on its way out.

use super::node::Channels;
use bitcoin::constants::ChainHash;
use bitcoin::secp256k1::PublicKey;
use lightning::ln::msgs::{
	AcceptChannel, AcceptChannelV2, AnnouncementSignatures, BaseMessageHandler, ChannelMessageHandler, ChannelReady,
	ChannelReestablish, ChannelUpdate, ClosingSigned, CommitmentSigned, ErrorMessage, FundingCreated, FundingSigned,
	Init, MessageSendEvent, OpenChannel, OpenChannelV2, PeerStorage, PeerStorageRetrieval, RevokeAndACK, Shutdown,
	SpliceAck, SpliceInit, SpliceLocked, Stfu, TxAbort, TxAckRbf, TxAddInput, TxAddOutput, TxComplete, TxInitRbf,
	TxRemoveInput, TxRemoveOutput, TxSignatures, UpdateAddHTLC, UpdateFailHTLC, UpdateFailMalformedHTLC, UpdateFee,
	UpdateFulfillHTLC,
};
use lightning::ln::types::ChannelId;
use lightning::types::features::{InitFeatures, NodeFeatures};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// LDK's handler of channel messages.
pub(super) struct Signing {
	channels: Arc<Channels>,
	keeps_it: AtomicBool,
}

impl Signing {
	pub(super) fn new(channels: Arc<Channels>) -> Signing {
		Signing { channels, keeps_it: AtomicBool::new(false) }
	}

	pub(super) fn set(&self, signs: bool) {
		self.keeps_it.store(!signs, Ordering::SeqCst);
	}
}

impl BaseMessageHandler for Signing {
	fn get_and_clear_pending_msg_events(&self) -> Vec<MessageSendEvent> {
		let mut events = self.channels.get_and_clear_pending_msg_events();
		if self.keeps_it.load(Ordering::SeqCst) {
			events.retain(|event| {
				!matches!(event, MessageSendEvent::SendFundingSigned { .. } | MessageSendEvent::SendChannelReady { .. })
			});
		}
		events
	}

	fn peer_disconnected(&self, peer: PublicKey) {
		self.channels.peer_disconnected(peer);
	}

	fn provided_node_features(&self) -> NodeFeatures {
		BaseMessageHandler::provided_node_features(&*self.channels)
	}

	fn provided_init_features(&self, peer: PublicKey) -> InitFeatures {
		BaseMessageHandler::provided_init_features(&*self.channels, peer)
	}

	fn peer_connected(&self, peer: PublicKey, message: &Init, inbound: bool) -> Result<(), ()> {
		self.channels.peer_connected(peer, message, inbound)
	}
}

macro_rules! pass {
	($($handle:ident: $message:ty),* $(,)?) => {
		$(fn $handle(&self, peer: PublicKey, message: $message) {
			ChannelMessageHandler::$handle(&*self.channels, peer, message);
		})*
	};
}

impl ChannelMessageHandler for Signing {
	pass! {
		handle_open_channel: &OpenChannel,
		handle_open_channel_v2: &OpenChannelV2,
		handle_accept_channel: &AcceptChannel,
		handle_accept_channel_v2: &AcceptChannelV2,
		handle_funding_created: &FundingCreated,
		handle_funding_signed: &FundingSigned,
		handle_channel_ready: &ChannelReady,
		handle_peer_storage: PeerStorage,
		handle_peer_storage_retrieval: PeerStorageRetrieval,
		handle_shutdown: &Shutdown,
		handle_closing_signed: &ClosingSigned,
		handle_stfu: &Stfu,
		handle_splice_init: &SpliceInit,
		handle_splice_ack: &SpliceAck,
		handle_splice_locked: &SpliceLocked,
		handle_tx_add_input: &TxAddInput,
		handle_tx_add_output: &TxAddOutput,
		handle_tx_remove_input: &TxRemoveInput,
		handle_tx_remove_output: &TxRemoveOutput,
		handle_tx_complete: &TxComplete,
		handle_tx_signatures: &TxSignatures,
		handle_tx_init_rbf: &TxInitRbf,
		handle_tx_ack_rbf: &TxAckRbf,
		handle_tx_abort: &TxAbort,
		handle_update_add_htlc: &UpdateAddHTLC,
		handle_update_fulfill_htlc: UpdateFulfillHTLC,
		handle_update_fail_htlc: &UpdateFailHTLC,
		handle_update_fail_malformed_htlc: &UpdateFailMalformedHTLC,
		handle_commitment_signed: &CommitmentSigned,
		handle_revoke_and_ack: &RevokeAndACK,
		handle_update_fee: &UpdateFee,
		handle_announcement_signatures: &AnnouncementSignatures,
		handle_channel_reestablish: &ChannelReestablish,
		handle_channel_update: &ChannelUpdate,
		handle_error: &ErrorMessage,
	}

	fn handle_commitment_signed_batch(&self, peer: PublicKey, channel: ChannelId, batch: Vec<CommitmentSigned>) {
		ChannelMessageHandler::handle_commitment_signed_batch(&*self.channels, peer, channel, batch);
	}

	fn get_chain_hashes(&self) -> Option<Vec<ChainHash>> {
		ChannelMessageHandler::get_chain_hashes(&*self.channels)
	}

	fn message_received(&self) {
		ChannelMessageHandler::message_received(&*self.channels);
	}
}
