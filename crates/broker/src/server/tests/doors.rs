//! Who is at the wrong listener is told so.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_reflection::pb::{v1 as reflection, v1alpha as older};

use super::*;

async fn channel(address: &str) -> Channel {
    Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

async fn say(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_at_the_wrong_listener_is_told_where_to_go() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path(), free_port())).await.unwrap();
    let client = server.addresses().client["default"].clone();
    let (peer, http) = (server.addresses().peer.clone(), server.addresses().http.clone());

    let get = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n";
    for (address, what) in [
        (&client, "a client listener of broker 1"),
        (&peer, "the peer listener of broker 1"),
    ] {
        let answer = say(address, get).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        for part in [what, &client, &http] {
            assert!(answer.contains(part), "{part} is missing in: {answer}");
        }
    }
    let api_versions = b"\0\0\0\x16\0\x12\0\x03\0\0\0\x01\0\x07rdkafka\0\0\0\0\0";
    for address in [&client, &peer, &http] {
        for foreign in [&api_versions[..], b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"] {
            assert_eq!(say(address, foreign).await, "", "{address}");
        }
    }
    for address in [&peer, &http] {
        let channel = channel(address).await;
        let described = AdminClient::new(channel.clone())
            .describe_cluster(v1::DescribeClusterRequest {})
            .await;
        let fetched = LogClient::new(channel).fetch(v1::FetchRequest::default()).await;
        for status in [described.unwrap_err(), fetched.unwrap_err()] {
            assert_eq!(status.code(), Code::Unimplemented, "{status}");
            assert!(status.message().contains("of broker 1"), "{status}");
            assert!(status.message().contains(&client), "{status}");
        }
    }
    let described = AdminClient::new(channel(&client).await)
        .describe_cluster(v1::DescribeClusterRequest {})
        .await;
    described.expect("the right one goes on");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_answers_in_both_of_its_versions() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path(), free_port())).await.unwrap();
    let channel = connect(&server).await;
    let now = reflection::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            reflection::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let mut client = reflection::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers = client
        .server_reflection_info(tokio_stream::iter([now]))
        .await
        .unwrap()
        .into_inner();
    let answer = format!("{:?}", answers.next().await.unwrap().unwrap());
    assert!(answer.contains("tidelog.v1.Groups"), "{answer}");

    let before = older::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(older::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut client = older::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers = client
        .server_reflection_info(tokio_stream::iter([before]))
        .await
        .unwrap()
        .into_inner();
    let answer = format!("{:?}", answers.next().await.unwrap().unwrap());
    assert!(answer.contains("tidelog.v1.Groups"), "{answer}");
    server.shutdown().await;
}
