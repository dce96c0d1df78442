//! An event as one line for people. Everything that an event says is in its line, so that lines can
//! stand for events in a digest.

use std::fmt::{self, Display, Formatter};

use tidelog_types::{EpochEntry, LeaderEpoch, PartitionRegistration, ProducerState};

use crate::event::{CommitResult, Entry, Event, Owed, ReadRecord, Value, What};

impl Display for Event {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.at.as_secs(), self.at.subsec_nanos());
        write!(f, "{seconds}.{nanos:09} {}", self.what)
    }
}

impl Display for What {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let families = [
            What::tell_sends,
            What::tell_reads,
            What::tell_commits,
            What::tell_members,
            What::tell_logs,
            What::tell_leaders,
            What::tell_metadata,
        ];
        for tell in families {
            if let Some(told) = tell(self, f) {
                return told;
            }
        }
        Ok(())
    }
}

/// A list with commas, each item as it writes itself.
struct List<'a, T>(&'a [T]);

impl<T: Display> Display for List<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (at, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if at == 0 { "" } else { " " })?;
        }
        f.write_str("]")
    }
}

impl What {
    fn tell_sends(&self, f: &mut Formatter<'_>) -> Option<fmt::Result> {
        Some(match self {
            Self::SendBegan {
                sender,
                send,
                partition,
                values,
                idempotent,
            } => {
                let kind = if *idempotent { "" } else { " without idempotence" };
                let (sender, send, values) = (sender.0, send.0, List(values));
                write!(f, "send {send} of sender {sender} to {partition}{kind}: {values}")
            }
            Self::SendAcknowledged {
                send,
                base_offset,
                leader_epoch,
            } => write!(
                f,
                "send {} acknowledged at offset {base_offset} in epoch {leader_epoch}",
                send.0
            ),
            Self::SendRefused { send } => write!(f, "send {} refused", send.0),
            Self::SendUnknown { send } => write!(f, "send {} of unknown fate", send.0),
            _ => return None,
        })
    }

    fn tell_reads(&self, f: &mut Formatter<'_>) -> Option<fmt::Result> {
        Some(match self {
            Self::EndAsked {
                request,
                partition,
                leader_epoch,
            } => write!(
                f,
                "request {} asks for the end of {partition}, carrying {}",
                request.0,
                epoch(*leader_epoch)
            ),
            Self::EndAnswered {
                request,
                offset,
                leader_epoch,
            } => write!(
                f,
                "request {} is told end {offset} in epoch {leader_epoch}",
                request.0
            ),
            Self::Read {
                reader,
                partition,
                from,
                next,
                records,
                log_start,
            } => write!(
                f,
                "reader {} reads {partition} from {from}, next {next}, log start {log_start}: {}",
                reader.0,
                List(records)
            ),
            Self::ReadToEnd {
                partition,
                log_start,
                end,
                records,
            } => write!(
                f,
                "{partition} read to its end {end}, log start {log_start}: {}",
                List(records)
            ),
            _ => return None,
        })
    }

    fn tell_commits(&self, f: &mut Formatter<'_>) -> Option<fmt::Result> {
        Some(match self {
            Self::CommitBegan {
                request,
                group,
                partition,
                offset,
            } => match offset {
                Some(offset) => write!(
                    f,
                    "request {} commits offset {offset} of {partition} for group {group:?}",
                    request.0
                ),
                None => write!(
                    f,
                    "request {} deletes group {group:?} with its offset of {partition}",
                    request.0
                ),
            },
            Self::CommitEnded { request, result } => {
                let result = match result {
                    CommitResult::Acknowledged => "acknowledged",
                    CommitResult::Refused => "refused",
                    CommitResult::Unknown => "of unknown fate",
                };
                write!(f, "commit of request {} {result}", request.0)
            }
            Self::CommitTaken { group, member, held } => {
                let member = match member {
                    Some((member, epoch)) => format!("member {member:?} in epoch {epoch}"),
                    None => "no member".to_owned(),
                };
                let held = match held {
                    Some(held) => format!("its epoch is {held}"),
                    None => "there is no such member".to_owned(),
                };
                write!(f, "group {group:?} takes a commit of {member}; {held}")
            }
            Self::OffsetAsked {
                request,
                group,
                partition,
            } => write!(
                f,
                "request {} asks for the offset of {partition} in group {group:?}",
                request.0
            ),
            Self::OffsetAnswered { request, offset } => match offset {
                Some(offset) => write!(f, "request {} is told offset {offset}", request.0),
                None => write!(f, "request {} is told that nothing is committed", request.0),
            },
            _ => return None,
        })
    }

    fn tell_members(&self, f: &mut Formatter<'_>) -> Option<fmt::Result> {
        Some(match self {
            Self::Assigned {
                group,
                member,
                partitions,
            } => write!(
                f,
                "member {member:?} of group {group:?} takes {} on",
                List(partitions)
            ),
            Self::GaveUp {
                group,
                member,
                partitions,
            } => write!(
                f,
                "member {member:?} of group {group:?} gives {} up",
                List(partitions)
            ),
            Self::MemberJoined { group, member } => {
                write!(f, "member {member:?} joins group {group:?}")
            }
            Self::MemberEnded { group, member } => {
                write!(f, "member {member:?} of group {group:?} ends")
            }
            Self::MemberRemoved { group, member } => {
                write!(f, "member {member:?} of group {group:?} is removed")
            }
            Self::Delivered {
                group,
                partition,
                offset,
            } => write!(f, "group {group:?} is handed offset {offset} of {partition}"),
            Self::GroupSettled { group, partitions } => {
                write!(
                    f,
                    "group {group:?} is settled, subscribed to {}",
                    List(partitions)
                )
            }
            _ => return None,
        })
    }

    fn tell_logs(&self, f: &mut Formatter<'_>) -> Option<fmt::Result> {
        Some(match self {
            Self::Recovered {
                broker,
                partition,
                log_start,
                log,
            } => write!(
                f,
                "broker {broker} recovers {partition}, log start {log_start}: {}",
                List(log)
            ),
            Self::Crashed { broker } => write!(f, "broker {broker} crashes"),
            Self::DiskLost { broker, node } => {
                write!(f, "broker {broker} loses its disk, which was node {node}")
            }
            Self::Appended {
                broker,
                partition,
                entry,
                leading,
            } => write!(
                f,
                "broker {broker} {} to {partition}: {entry}",
                if *leading { "appends" } else { "copies" }
            ),
            Self::Durable {
                broker,
                partition,
                end,
            } => write!(f, "broker {broker} has {partition} on disk up to {end}"),
            Self::Truncated {
                broker,
                partition,
                to,
            } => write!(f, "broker {broker} truncates {partition} to {to}"),
            Self::Trimmed {
                broker,
                partition,
                log_start,
            } => write!(f, "broker {broker} trims {partition} to begin at {log_start}"),
            Self::Derived {
                broker,
                partition,
                epochs,
                producers,
            } => {
                let epochs: Vec<_> = epochs.iter().map(Epoch).collect();
                let producers: Vec<_> = producers.iter().map(Producer).collect();
                write!(
                    f,
                    "broker {broker} derived of {partition} epochs {} and producers {}",
                    List(&epochs),
                    List(&producers)
                )
            }
            _ => return None,
        })
    }

    fn tell_leaders(&self, f: &mut Formatter<'_>) -> Option<fmt::Result> {
        Some(match self {
            Self::Leads {
                broker,
                life,
                partition,
                epoch,
            } => write!(
                f,
                "broker {broker} in life {} leads {partition} in epoch {epoch}",
                life.0
            ),
            Self::HighWatermark {
                broker,
                partition,
                epoch,
                to,
                leading,
            } => write!(
                f,
                "broker {broker}, {} in epoch {epoch}, moves the high watermark of {partition} to {to}",
                if *leading { "leading" } else { "following" }
            ),
            Self::Counts {
                broker,
                partition,
                epoch,
                members,
            } => write!(
                f,
                "broker {broker} counts {} in epoch {epoch} of {partition}",
                List(members)
            ),
            Self::Acknowledges {
                broker,
                partition,
                base_offset,
                values,
            } => write!(
                f,
                "broker {broker} acknowledges {partition} from {base_offset}: {}",
                List(values)
            ),
            Self::Serves {
                broker,
                partition,
                until,
            } => write!(f, "broker {broker} hands out {partition} up to {until}"),
            Self::TellsOffset {
                broker,
                partition,
                offset,
            } => write!(f, "broker {broker} tells offset {offset} of {partition}"),
            _ => return None,
        })
    }

    fn tell_metadata(&self, f: &mut Formatter<'_>) -> Option<fmt::Result> {
        Some(match self {
            Self::Registered {
                partition,
                registration,
            } => write!(f, "{partition} registered: {}", Registration(registration)),
            Self::UncleanElection { topic, allowed } => {
                let may = if *allowed { "may" } else { "may not" };
                write!(f, "topic {topic} {may} elect uncleanly")
            }
            Self::BrokerRegistered {
                broker,
                epoch,
                directory,
            } => write!(
                f,
                "broker {broker} registered in epoch {epoch} on directory {directory}"
            ),
            Self::Applied {
                broker,
                index,
                command,
                state,
            } => write!(
                f,
                "broker {broker} applies metadata index {index}: command {command:016x}, state {state:016x}"
            ),
            Self::CommandAcknowledged { index, command } => {
                write!(f, "command {command:016x} acknowledged at metadata index {index}")
            }
            Self::Voted {
                node,
                term,
                candidate,
            } => write!(f, "node {node} votes for {candidate} in term {term}"),
            Self::Healed { owed } => write!(f, "healed, owing {}", List(owed)),
            Self::Ended { up } => write!(f, "ended, up are {}", List(up)),
            _ => return None,
        })
    }
}

fn epoch(epoch: Option<LeaderEpoch>) -> String {
    epoch.map_or_else(|| "no epoch".to_owned(), |epoch| format!("epoch {epoch}"))
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

impl Display for ReadRecord {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.offset, self.value)
    }
}

impl Display for Entry {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.base_offset, self.leader_epoch)?;
        if let Some(stamp) = self.producer {
            write!(f, "/{}.{}.{}", stamp.id, stamp.epoch, stamp.base_sequence)?;
        }
        write!(f, "{}", List(&self.values))
    }
}

impl Display for Owed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let what = match (self.reads, self.writes) {
            (true, true) => "reads+writes",
            (true, false) => "reads",
            (false, true) => "writes",
            (false, false) => "nothing",
        };
        write!(f, "{}:{what}", self.partition)
    }
}

struct Epoch<'a>(&'a EpochEntry);

impl Display for Epoch<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.0.start_offset, self.0.epoch)
    }
}

struct Producer<'a>(&'a ProducerState);

impl Display for Producer<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let state = self.0;
        write!(f, "{}.{}({})", state.id, state.epoch, state.last_timestamp_ms)?;
        for batch in &state.batches {
            let (first, last) = (batch.base_offset, batch.last_offset);
            let (sequence, timestamp) = (batch.base_sequence, batch.timestamp_ms);
            write!(f, " {sequence}:{first}-{last}({timestamp})")?;
        }
        Ok(())
    }
}

struct Registration<'a>(&'a PartitionRegistration);

impl Display for Registration<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let registration = self.0;
        match (registration.leader, registration.last_known_leader) {
            (Some(leader), None) => write!(f, "leader {leader}"),
            (Some(leader), Some(last)) => write!(f, "leader {leader}, once {last}"),
            (None, Some(last)) => write!(f, "no leader, once {last}"),
            (None, None) => write!(f, "no leader"),
        }?;
        write!(
            f,
            " in epoch {}, partition epoch {}, ISR {}, ELR {}, replicas {}, minimum {}",
            registration.leader_epoch,
            registration.partition_epoch,
            List(&registration.isr),
            List(&registration.elr),
            List(&registration.replicas),
            registration.min_insync_replicas
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::script::*;

    #[test]
    fn an_event_is_one_readable_line() {
        let lines: Vec<_> = history([
            send(1, 2, &[10, 11]),
            read(1, 0, 1, &[(0, 10)]),
            recovered(2, 0, vec![entry(0, 1, &[10]), produced(1, 3, &[11], 4)]),
            registered(registration(None, 1, 2, &[], &[1, 2])),
        ])
        .iter()
        .map(ToString::to_string)
        .collect();
        let partition = p0();
        assert_eq!(
            lines,
            [
                format!("0.000000000 send 2 of sender 1 to {partition}: [10 11]"),
                format!("0.001000000 reader 1 reads {partition} from 0, next 1, log start 0: [0=10]"),
                format!("0.002000000 broker 2 recovers {partition}, log start 0: [0@1[10] 1@3/9.0.4[11]]"),
                format!(
                    "0.003000000 {partition} registered: no leader in epoch 1, partition epoch 2, ISR [], ELR [1 2], \
                     replicas [1 2 3], minimum 2"
                ),
            ]
        );
    }
}
