//! Pages: how much of a list goes into one answer.
//!
//! gRPC clients of other languages take messages of 4 MiB unless they are told otherwise, and fail
//! on a larger one. So a unary answer ends before that, and says with a token where the next one
//! goes on.

use prost::Message;
use tidelog_proto::v1;

/// What a unary answer stays below, bytes: gRPC's default limit of a received message.
pub(super) const UNARY_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Of that, what is left for fields beside the list, bytes: the most that those of any answer take,
/// and room to spare.
const BESIDE_BYTES: usize = 512 * 1024;
/// What an entry takes besides its own bytes: tag and length.
const FRAME_BYTES: usize = 6;

/// One page, while it is filled.
pub(super) struct Page {
    token: String,
    entries_left: usize,
    bytes_left: usize,
    is_empty: bool,
}

impl Page {
    /// The page that is asked for, with as many entries as fit where the request does not say.
    pub(super) fn of(request: Option<v1::PageRequest>) -> Self {
        let request = request.unwrap_or_default();
        Self {
            token: request.token,
            entries_left: match request.size {
                0 => usize::MAX,
                size => size as usize,
            },
            bytes_left: UNARY_ANSWER_BYTES - BESIDE_BYTES,
            is_empty: true,
        }
    }

    /// Where it begins; empty for the first page.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Takes entries up to where the page is full; whether there are more. An empty page takes one
    /// whatever its size.
    pub(super) fn fill<T: Message>(
        &mut self,
        into: &mut Vec<T>,
        entries: impl IntoIterator<Item = T>,
    ) -> bool {
        for entry in entries {
            let bytes = entry.encoded_len() + FRAME_BYTES;
            if !self.is_empty && (self.entries_left == 0 || bytes > self.bytes_left) {
                return true;
            }
            self.is_empty = false;
            self.entries_left = self.entries_left.saturating_sub(1);
            self.bytes_left = self.bytes_left.saturating_sub(bytes);
            into.push(entry);
        }
        false
    }
}

/// Shortens refusals until a unary answer that cannot be paged stays below its limit: first their
/// texts go, from the last one back, then the address of who to ask instead, which metadata tells
/// as well. Codes stay.
pub(super) fn shorten<'a>(answer_bytes: usize, errors: impl DoubleEndedIterator<Item = &'a mut v1::Error>) {
    let mut excess = answer_bytes.saturating_sub(UNARY_ANSWER_BYTES);
    for error in errors.rev() {
        if excess == 0 {
            return;
        }
        let text = std::mem::take(&mut error.message);
        let leader = error.leader.as_mut();
        let address = leader.map(|leader| std::mem::take(&mut leader.address));
        excess = excess.saturating_sub(text.len() + address.map_or(0, |address| address.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(bytes: usize) -> v1::GroupSummary {
        v1::GroupSummary {
            group_id: "g".repeat(bytes),
            ..Default::default()
        }
    }

    fn filled(size: u32, entries: Vec<v1::GroupSummary>) -> (usize, bool) {
        let request = v1::PageRequest {
            size,
            token: String::new(),
        };
        let mut into = Vec::new();
        let more = Page::of(Some(request)).fill(&mut into, entries);
        let answer = v1::ListGroupsResponse {
            groups: into,
            ..Default::default()
        };
        if answer.groups.len() > 1 {
            assert!(answer.encoded_len() < UNARY_ANSWER_BYTES);
        }
        (answer.groups.len(), more)
    }

    #[test]
    fn a_page_ends_where_it_is_full() {
        assert_eq!(filled(0, Vec::new()), (0, false));
        assert_eq!(filled(2, vec![summary(1); 3]), (2, true));
        assert_eq!(filled(3, vec![summary(1); 3]), (3, false));
        assert_eq!(filled(0, vec![summary(1000); 3_000]), (3_000, false));
        let (count, more) = filled(0, vec![summary(1000); 10_000]);
        assert!((3_500..4_000).contains(&count) && more, "{count} entries");
        // One that is too large goes alone, and what follows is not lost.
        assert_eq!(filled(0, vec![summary(5_000_000), summary(1)]), (1, true));
    }

    #[test]
    fn refusals_are_shortened_from_the_last_one_on_until_it_is_enough() {
        let error = || v1::Error {
            code: 6,
            message: "m".repeat(1000),
            leader: Some(v1::Leader {
                address: "a".repeat(200),
                ..Default::default()
            }),
        };
        let answer = |errors: &[v1::Error]| v1::ListOffsetsResponse {
            partitions: errors
                .iter()
                .map(|error| v1::PartitionOffset {
                    error: Some(error.clone()),
                    ..Default::default()
                })
                .collect(),
        };
        let mut errors = vec![error(); 10_000];
        let before = answer(&errors).encoded_len();
        assert!(before > UNARY_ANSWER_BYTES);
        shorten(before, errors.iter_mut());
        assert!(answer(&errors).encoded_len() <= UNARY_ANSWER_BYTES);
        assert_eq!(errors[0], error());
        assert_eq!(errors[9_999].message, "");
        assert!(errors.iter().all(|error| error.code == 6));
        let mut few = vec![error(); 10];
        shorten(answer(&few).encoded_len(), few.iter_mut());
        assert_eq!(few, vec![error(); 10]);
    }
}
