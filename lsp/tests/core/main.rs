//! The core in simulated time: one file per behaviour. Every write goes through JSON and every restart through
//! `Book::restore`, as in the node.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, missing_docs)]

mod exposure;
mod fee_spike;
mod found_by_sim;
mod harness;
mod interop;
mod jit_bounds;
mod jit_restart;
mod jit_sale;
mod jit_trouble;
mod jit_trust;
mod jit_withheld;
mod ledger;
mod money;
mod order_batch;
mod order_lapsed;
mod order_lightning;
mod order_onchain;
mod order_risks;
mod order_rules;
mod order_splice;
mod policy;
mod random_batches;
mod random_jit;
mod random_orders;
mod reclaim;
mod tiers;
mod tokens;
mod wake;
mod webhooks;
mod wire;
