//! Topic names and group ids: a value of these types is valid.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidName {
    /// Not a topic name.
    #[error(
        "topic name {0:?} is not allowed: use 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', but not \".\" or \"..\""
    )]
    Topic(String),
    /// Not a group id.
    #[error("group id of {0} bytes is not allowed: use 1 to 255 bytes of UTF-8")]
    Group(usize),
}

/// A topic's name: 1 to 249 of `[a-zA-Z0-9._-]`, not `.` or `..` (Kafka's rule).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 249;
    /// The internal topic that holds consumer groups' state.
    pub const CONSUMER_OFFSETS: &'static str = "__consumer_offsets";

    /// The name of the internal topic that holds consumer groups' state.
    pub fn consumer_offsets() -> Self {
        Self(Self::CONSUMER_OFFSETS.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the topic belongs to the cluster itself: clients neither produce to it nor delete
    /// it.
    pub fn is_internal(&self) -> bool {
        self.as_str() == Self::CONSUMER_OFFSETS
    }
}

impl FromStr for TopicName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        let valid = (1..=Self::MAX_LEN).contains(&name.len())
            && name.bytes().all(allowed)
            && !matches!(name, "." | "..");
        if valid {
            Ok(Self(name.into()))
        } else {
            // The refused name may be of any length; an error message may not.
            Err(InvalidName::Topic(name.chars().take(Self::MAX_LEN + 1).collect()))
        }
    }
}

/// A consumer group's id: any non-empty UTF-8 string of at most 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupId(Arc<str>);

impl GroupId {
    /// The longest id, in bytes.
    pub const MAX_LEN: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupId {
    type Err = InvalidName;

    fn from_str(id: &str) -> Result<Self, InvalidName> {
        if (1..=Self::MAX_LEN).contains(&id.len()) {
            Ok(Self(id.into()))
        } else {
            Err(InvalidName::Group(id.len()))
        }
    }
}

macro_rules! string_like {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(value: String) -> Result<Self, InvalidName> {
                value.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0.as_ref().to_owned()
            }
        }
    };
}

string_like!(TopicName);
string_like!(GroupId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rule() {
        for good in ["a", "flights", "a.b_c-9", "...", &"x".repeat(249)] {
            assert_eq!(good.parse::<TopicName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a b", "a/b", "ü", &"x".repeat(250)] {
            assert_eq!(bad.parse::<TopicName>(), Err(InvalidName::Topic(bad.to_owned())));
        }
    }

    #[test]
    fn a_refused_name_is_quoted_only_in_part() {
        let Err(InvalidName::Topic(quoted)) = "y".repeat(1 << 20).parse::<TopicName>() else {
            panic!("a name of a mebibyte was taken")
        };
        assert_eq!(quoted.len(), 250);
    }

    #[test]
    fn group_ids_are_any_short_text() {
        assert_eq!("Gruppe ü/1".parse::<GroupId>().unwrap().as_str(), "Gruppe ü/1");
        assert_eq!("".parse::<GroupId>(), Err(InvalidName::Group(0)));
        assert_eq!("g".repeat(256).parse::<GroupId>(), Err(InvalidName::Group(256)));
    }
}
