//! Descriptions and offsets of groups, page by page: a large group's do not fit into one answer.

use tidelog_group::{GroupDescription, NamedOffset};
use tidelog_proto::v1;
use tidelog_types::{ErrorCode, PartitionError, TopicPartition};

use super::convert;
use crate::grpc::page::Page;

/// What the last page ended with. Members come before offsets.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Last {
    Nothing,
    Member(String),
    Offset(TopicPartition),
}

impl Last {
    fn of(token: &str) -> Result<Self, PartitionError> {
        let parsed = match token.split_once('/') {
            None => token.is_empty().then_some(Self::Nothing),
            Some(("member", member)) => Some(Self::Member(member.to_owned())),
            Some(("offset", partition)) => partition.rsplit_once('/').and_then(|(topic, partition)| {
                Some(Self::Offset(TopicPartition {
                    topic: topic.parse().ok()?,
                    partition: tidelog_types::PartitionIndex(partition.parse().ok()?),
                }))
            }),
            Some(_) => None,
        };
        parsed.ok_or_else(|| {
            let text =
                "the page token is not one of this call: give the next_token of the page before, or none";
            PartitionError::new(ErrorCode::InvalidRequest, text)
        })
    }

    fn token(members: &[v1::GroupMember], offsets: &[v1::CommittedOffset]) -> String {
        match (members.last(), offsets.last()) {
            (_, Some(offset)) => format!("offset/{}/{}", offset.topic, offset.partition),
            (Some(member), None) => format!("member/{}", member.member_id),
            (None, None) => String::new(),
        }
    }
}

/// Of a group's offsets, those that the page holds.
pub(super) fn offsets(
    offsets: Vec<NamedOffset>,
    page: Option<v1::PageRequest>,
) -> Result<v1::OffsetsResponse, PartitionError> {
    let mut page = Page::of(page);
    let last = Last::of(page.token())?;
    let mut answer = v1::OffsetsResponse::default();
    if page.fill(&mut answer.offsets, after(offsets, &last)) {
        answer.next_token = Last::token(&[], &answer.offsets);
    }
    Ok(answer)
}

/// Of a group's members and offsets, those that the page holds. The group itself is told on each.
pub(super) fn description(
    group: &str,
    mut description: GroupDescription,
    topics: &tidelog_group::Topics,
    page: Option<v1::PageRequest>,
) -> Result<v1::DescribeGroupResponse, PartitionError> {
    let mut page = Page::of(page);
    let last = Last::of(page.token())?;
    let members = std::mem::take(&mut description.members);
    let offsets = std::mem::take(&mut description.offsets);
    let mut answer = convert::description(group, &description);
    let members = members
        .iter()
        .filter(|member| Last::Member(member.member.to_string()) > last)
        .map(|member| convert::group_member(member, topics));
    let more =
        page.fill(&mut answer.members, members) || page.fill(&mut answer.offsets, after(offsets, &last));
    if more {
        answer.next_token = Last::token(&answer.members, &answer.offsets);
    }
    Ok(answer)
}

/// By topic and partition, from behind the last one on.
fn after(mut offsets: Vec<NamedOffset>, last: &Last) -> impl Iterator<Item = v1::CommittedOffset> {
    offsets.retain(|offset| Last::Offset(offset.partition.clone()) > *last);
    offsets.sort_unstable_by(|a, b| a.partition.cmp(&b.partition));
    offsets.into_iter().map(convert::committed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_back_and_others_are_refused() {
        let partition = TopicPartition {
            topic: "a-b.c".parse().unwrap(),
            partition: tidelog_types::PartitionIndex(17),
        };
        let offset = v1::CommittedOffset {
            topic: "a-b.c".into(),
            partition: 17,
            ..Default::default()
        };
        let member = v1::GroupMember {
            member_id: "m/1".into(),
            ..Default::default()
        };
        let token = Last::token(std::slice::from_ref(&member), &[offset]);
        assert_eq!(Last::of(&token).unwrap(), Last::Offset(partition));
        assert_eq!(
            Last::of(&Last::token(&[member], &[])).unwrap(),
            Last::Member("m/1".into())
        );
        assert_eq!(Last::of("").unwrap(), Last::Nothing);
        for bad in ["x", "member", "offset/a", "offset/a/b", "offset//1", "topic/a/1"] {
            assert_eq!(
                Last::of(bad).unwrap_err().code,
                ErrorCode::InvalidRequest,
                "{bad}"
            );
        }
    }
}
