//! Messages between the nodes of the metadata group.

use openraft::SnapshotSegmentId;
use openraft::error::SnapshotMismatch;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, VoteRequest, VoteResponse,
};
use tidelog_proto::internal::v1 as pb;
use tidelog_proto::internal::v1::append_entries_response::{Conflict, Partial, Result as Kind, Success};

use super::DecodeError;
use super::raft::{
    applied_from, applied_to, entry_from, entry_to, log_id_from, log_id_to, required_vote, vote_from, vote_to,
};
use crate::raft_types::{SnapshotMeta, TypeConfig};

pub(crate) fn append_to(to_node: u64, request: AppendEntriesRequest<TypeConfig>) -> pb::AppendEntriesRequest {
    pb::AppendEntriesRequest {
        to_node,
        vote: Some(vote_to(&request.vote)),
        prev_log_id: request.prev_log_id.as_ref().map(log_id_to),
        entries: request.entries.into_iter().map(entry_to).collect(),
        leader_commit: request.leader_commit.as_ref().map(log_id_to),
    }
}

pub(crate) fn append_from(
    message: pb::AppendEntriesRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, DecodeError> {
    Ok(AppendEntriesRequest {
        vote: required_vote(message.vote.as_ref())?,
        prev_log_id: message.prev_log_id.as_ref().map(log_id_from),
        entries: message
            .entries
            .into_iter()
            .map(entry_from)
            .collect::<Result<_, _>>()?,
        leader_commit: message.leader_commit.as_ref().map(log_id_from),
    })
}

pub(crate) fn appended_to(response: AppendEntriesResponse<u64>) -> pb::AppendEntriesResponse {
    let kind = match response {
        AppendEntriesResponse::Success => Kind::Success(Success {}),
        AppendEntriesResponse::PartialSuccess(id) => Kind::Partial(Partial {
            matching: id.as_ref().map(log_id_to),
        }),
        AppendEntriesResponse::Conflict => Kind::Conflict(Conflict {}),
        AppendEntriesResponse::HigherVote(vote) => Kind::HigherVote(vote_to(&vote)),
    };
    pb::AppendEntriesResponse { result: Some(kind) }
}

pub(crate) fn appended_from(
    message: pb::AppendEntriesResponse,
) -> Result<AppendEntriesResponse<u64>, DecodeError> {
    Ok(match message.result.ok_or(DecodeError::Field("result"))? {
        Kind::Success(_) => AppendEntriesResponse::Success,
        Kind::Partial(partial) => {
            AppendEntriesResponse::PartialSuccess(partial.matching.as_ref().map(log_id_from))
        }
        Kind::Conflict(_) => AppendEntriesResponse::Conflict,
        Kind::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote_from(&vote)),
    })
}

pub(crate) fn vote_request_to(to_node: u64, request: &VoteRequest<u64>) -> pb::VoteRequest {
    pb::VoteRequest {
        to_node,
        vote: Some(vote_to(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(log_id_to),
    }
}

pub(crate) fn vote_request_from(message: &pb::VoteRequest) -> Result<VoteRequest<u64>, DecodeError> {
    Ok(VoteRequest {
        vote: required_vote(message.vote.as_ref())?,
        last_log_id: message.last_log_id.as_ref().map(log_id_from),
    })
}

pub(crate) fn voted_to(response: &VoteResponse<u64>) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: Some(vote_to(&response.vote)),
        granted: response.vote_granted,
        last_log_id: response.last_log_id.as_ref().map(log_id_to),
    }
}

pub(crate) fn voted_from(message: &pb::VoteResponse) -> Result<VoteResponse<u64>, DecodeError> {
    Ok(VoteResponse {
        vote: required_vote(message.vote.as_ref())?,
        vote_granted: message.granted,
        last_log_id: message.last_log_id.as_ref().map(log_id_from),
    })
}

pub(crate) fn segment_to(
    to_node: u64,
    request: InstallSnapshotRequest<TypeConfig>,
) -> pb::InstallSnapshotRequest {
    pb::InstallSnapshotRequest {
        to_node,
        vote: Some(vote_to(&request.vote)),
        applied: Some(applied_to(
            request.meta.last_log_id.as_ref(),
            &request.meta.last_membership,
        )),
        snapshot_id: request.meta.snapshot_id,
        offset: request.offset,
        data: request.data.into(),
        done: request.done,
    }
}

pub(crate) fn segment_from(
    message: pb::InstallSnapshotRequest,
) -> Result<InstallSnapshotRequest<TypeConfig>, DecodeError> {
    let applied = message.applied.ok_or(DecodeError::Field("snapshot state"))?;
    let (last_log_id, last_membership) = applied_from(applied);
    Ok(InstallSnapshotRequest {
        vote: required_vote(message.vote.as_ref())?,
        meta: SnapshotMeta {
            last_log_id,
            last_membership,
            snapshot_id: message.snapshot_id,
        },
        offset: message.offset,
        data: message.data.into(),
        done: message.done,
    })
}

pub(crate) fn mismatch_to(mismatch: SnapshotMismatch) -> pb::SnapshotMismatch {
    pb::SnapshotMismatch {
        expected_id: mismatch.expect.id,
        expected_offset: mismatch.expect.offset,
        got_id: mismatch.got.id,
        got_offset: mismatch.got.offset,
    }
}

pub(crate) fn mismatch_from(message: pb::SnapshotMismatch) -> SnapshotMismatch {
    SnapshotMismatch {
        expect: SnapshotSegmentId {
            id: message.expected_id,
            offset: message.expected_offset,
        },
        got: SnapshotSegmentId {
            id: message.got_id,
            offset: message.got_offset,
        },
    }
}
