//! Which topic a request means: names are addresses, and an address may have been given to another
//! topic since.

use std::fmt;

use crate::mutant::{self, Mutant};
use crate::{ErrorCode, PartitionError, TopicId};

/// Checks the id that came with a topic's name against the topic that has this name now, if there
/// is one: nothing that is meant for one topic takes effect in another. Without an id the name
/// alone counts.
///
/// The refusal is UNKNOWN_TOPIC_ID. It does not tell whether the topic was deleted or this broker
/// has not heard of it yet: its metadata index, beside that of the caller's, does.
pub fn check_topic_id(
    name: impl fmt::Display,
    meant: Option<TopicId>,
    known: Option<TopicId>,
) -> Result<(), PartitionError> {
    let Some(meant) = meant else {
        return Ok(());
    };
    let cause = match known {
        Some(known) if known == meant => return Ok(()),
        Some(_) if mutant::is_on(Mutant::GoByTopicName) => return Ok(()),
        Some(known) => format!("the topic of that name has id {known}"),
        None => "there is no topic of that name".to_owned(),
    };
    let message = format!(
        "topic {name} with id {meant} is not known here: {cause}. It was deleted, or this broker has not heard of it yet: refresh metadata"
    );
    Err(PartitionError::new(ErrorCode::UnknownTopicId, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_must_be_that_of_the_topic_which_has_the_name_now() {
        let id = |byte| TopicId::from_slice(&[byte; 16]);
        let code = |meant, known| check_topic_id("t", meant, known).map_err(|error| error.code);
        assert_eq!(code(None, id(1)), Ok(()));
        assert_eq!(code(None, None), Ok(()));
        assert_eq!(code(id(1), id(1)), Ok(()));
        assert_eq!(code(id(1), id(2)), Err(ErrorCode::UnknownTopicId));
        assert_eq!(code(id(1), None), Err(ErrorCode::UnknownTopicId));
    }
}
