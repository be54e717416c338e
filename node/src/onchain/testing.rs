//! An in-memory store for the tests of this module.
