//! Between domain types and the protobuf that is kept on disk and sent between brokers: one file a
//! message family.
//!
//! Everything on disk is a [`pb::Versioned`], so that what a later version writes is recognised and
//! refused.

pub(crate) mod command;
pub(crate) mod outcome;
pub(crate) mod raft;
pub(crate) mod record;
pub(crate) mod rpc;

#[cfg(test)]
mod tests;

use prost::Message;
use thiserror::Error;
use tidelog_proto::storage::v1 as pb;
use tidelog_types::BrokerId;

/// The version that this build writes, and the newest that it reads.
const VERSION: u32 = 1;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error("damaged metadata value: {0}")]
    Damaged(#[from] prost::DecodeError),
    /// Written by a later version.
    #[error(
        "metadata value of format version {0}, but this build reads up to {VERSION}: start the newer version"
    )]
    Version(u32),
    /// Protobuf, but something is missing or out of range.
    #[error("metadata value without a valid {0}")]
    Field(&'static str),
}

/// What a stored value holds.
pub(crate) use tidelog_proto::storage::v1::versioned::Value;

/// A stored value's bytes.
pub(crate) fn encode(value: Value) -> Vec<u8> {
    pb::Versioned {
        version: VERSION,
        value: Some(value),
    }
    .encode_to_vec()
}

/// A stored value.
pub(crate) fn decode(bytes: &[u8]) -> Result<Value, DecodeError> {
    let versioned = pb::Versioned::decode(bytes)?;
    if versioned.version != VERSION {
        return Err(DecodeError::Version(versioned.version));
    }
    versioned.value.ok_or(DecodeError::Field("value"))
}

pub(crate) fn broker_id(id: u32) -> Result<BrokerId, DecodeError> {
    BrokerId::new(id).ok_or(DecodeError::Field("broker id"))
}

fn broker_ids(ids: Vec<u32>) -> Result<Vec<BrokerId>, DecodeError> {
    ids.into_iter().map(broker_id).collect()
}

/// 0 stands for none.
fn optional_broker(id: Option<BrokerId>) -> u32 {
    id.map_or(0, BrokerId::get)
}

macro_rules! uuid {
    ($type:ident, $bytes:expr, $name:literal) => {
        tidelog_types::$type::from_slice(&$bytes).ok_or($crate::codec::DecodeError::Field($name))
    };
}
pub(crate) use uuid;
