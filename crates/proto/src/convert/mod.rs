//! Conversions between messages and domain types, one module a message family.

mod error;
