//! GET on a broker's HTTP listener. The health check of a container runs this every other second,
//! so it brings no HTTP client along.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use tidelog_types::HostPort;

use crate::exit::{Exit, Failure};

/// Longest answer that is read, bytes.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// Status and body of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// E.g. 200.
    pub(crate) status: u16,
    /// What came after the headers.
    pub(crate) body: String,
}

/// Asks `host:port` for a path; blocks for at most about `timeout`.
pub(crate) fn get(address: &str, path: &str, timeout: Duration) -> Result<Answer, Failure> {
    if let Err(error) = address.parse::<HostPort>() {
        return Err(Failure::usage(format!("--http: {error}")));
    }
    let unreachable = |error: std::io::Error| {
        Failure::new(
            Exit::Unreachable,
            format!("no broker answers on http://{address}: {error}; check that it runs, and --http"),
        )
    };
    let mut stream = connect(address, timeout).map_err(unreachable)?;
    stream.set_read_timeout(Some(timeout)).map_err(unreachable)?;
    stream.set_write_timeout(Some(timeout)).map_err(unreachable)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(unreachable)?;
    let mut text = Vec::new();
    stream
        .take(MAX_ANSWER_BYTES)
        .read_to_end(&mut text)
        .map_err(unreachable)?;
    parse(&String::from_utf8_lossy(&text)).ok_or_else(|| {
        Failure::new(
            Exit::Failed,
            format!(
                "what answers on {address} does not speak HTTP; name the broker's HTTP listener with --http"
            ),
        )
    })
}

fn connect(address: &str, timeout: Duration) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut words = head.lines().next()?.split_whitespace();
    if !words.next()?.starts_with("HTTP/") {
        return None;
    }
    Some(Answer {
        status: words.next()?.parse().ok()?,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_status_and_body() {
        let answer = parse("HTTP/1.0 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        assert_eq!(
            answer,
            Answer {
                status: 503,
                body: "{}".to_owned()
            }
        );
        assert_eq!(parse("SSH-2.0-OpenSSH\r\n\r\n"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn nobody_there_is_unreachable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let failure = get(&address, "/readyz", Duration::from_secs(1)).unwrap_err();
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.message.contains(&address), "{failure}");
    }
}
