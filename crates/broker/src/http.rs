//! The HTTP listener: `/livez`, `/readyz`, `/metrics`, `/metrics/detail`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use futures::future::BoxFuture;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::grpc::meant_for::not_for_clients;
use crate::health::Health;
use crate::metrics::Detail;

/// What the broker counts.
pub trait Figures: Send + Sync + 'static {
    /// Prometheus' exposition text.
    fn expose(&self, detail: Detail) -> BoxFuture<'_, String>;
}

/// Serves until the token is cancelled.
///
/// `sentence` says what this listener is, to browsers that ask for something else and to gRPC
/// clients.
pub async fn serve<L>(
    listener: L,
    health: Arc<dyn Health>,
    figures: Arc<dyn Figures>,
    sentence: String,
    shutdown: CancellationToken,
) -> std::io::Result<()>
where
    L: axum::serve::Listener<Addr: std::fmt::Debug>,
{
    let metrics = Router::new()
        .route("/metrics", get(metrics))
        .route("/metrics/detail", get(detailed_metrics))
        .with_state(figures);
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(health)
        .merge(metrics)
        .fallback(async move |request: Request| elsewhere(&request, &sentence));
    axum::serve(listener, routes)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

/// What is not here: for a gRPC client a status that it understands.
fn elsewhere(request: &Request, sentence: &str) -> Response {
    let text = format!("there is no {}: {sentence}", request.uri().path());
    let kind = request.headers().get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return not_for_clients(text).into_http();
    }
    (StatusCode::NOT_FOUND, format!("{text}\n")).into_response()
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    reasons: Vec<String>,
}

async fn livez() -> Json<Report> {
    Json(Report {
        status: "ok",
        reasons: Vec::new(),
    })
}

async fn readyz(State(health): State<Arc<dyn Health>>) -> Response {
    let reasons = health.unready_reasons();
    if reasons.is_empty() {
        return Json(Report {
            status: "ok",
            reasons,
        })
        .into_response();
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        Json(Report {
            status: "not ready",
            reasons,
        }),
    )
        .into_response()
}

async fn metrics(State(figures): State<Arc<dyn Figures>>) -> Response {
    exposition(figures.expose(Detail::Topics).await)
}

async fn detailed_metrics(State(figures): State<Arc<dyn Figures>>) -> Response {
    exposition(figures.expose(Detail::Partitions).await)
}

fn exposition(text: String) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use std::time::Duration;

    use super::*;

    struct Broker(Vec<String>);

    impl Health for Broker {
        fn unready_reasons(&self) -> Vec<String> {
            self.0.clone()
        }

        fn since_contact(&self) -> Option<Duration> {
            None
        }
    }

    impl Figures for Broker {
        fn expose(&self, detail: Detail) -> BoxFuture<'_, String> {
            Box::pin(std::future::ready(format!("tidelog_up 1 {detail:?}\n")))
        }
    }

    async fn ask(reasons: &[&str], path: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let broker = Arc::new(Broker(reasons.iter().map(ToString::to_string).collect()));
        let sentence = "this is the HTTP listener of broker 7".to_owned();
        let server = tokio::spawn(serve(listener, broker.clone(), broker, sentence, stop.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        stop.cancel();
        server.await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn ready_means_200_and_not_ready_means_503_with_reasons() {
        assert!(ask(&[], "/readyz").await.starts_with("HTTP/1.1 200"));
        let answer = ask(&["not registered yet"], "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("not registered yet"), "{answer}");
    }

    #[tokio::test]
    async fn what_is_not_there_says_what_is() {
        let answer = ask(&[], "/topics").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        assert!(
            answer.ends_with("there is no /topics: this is the HTTP listener of broker 7\n"),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn a_broker_that_is_not_ready_is_alive_and_shows_metrics() {
        assert!(ask(&["starting"], "/livez").await.starts_with("HTTP/1.1 200"));
        for (path, detail) in [("/metrics", "Topics"), ("/metrics/detail", "Partitions")] {
            let answer = ask(&["starting"], path).await;
            assert!(answer.ends_with(&format!("tidelog_up 1 {detail}\n")), "{answer}");
        }
    }
}
