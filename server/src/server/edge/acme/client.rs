//! Sends the requests of the ACME library with the limits of all outbound requests.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error};

use super::super::authority;
use crate::auth::outbound::Outbound;
use crate::config;

/// Sends the requests of the ACME library.
#[derive(Clone)]
pub(super) struct HttpClient(pub(super) config::Acme);

impl HttpClient {
    async fn send(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await;
        let url = head.uri.to_string();
        // Most URLs come from the certificate authority. Each is checked like a configured one.
        let target = authority(&self.0, &url);
        // Certificates are not JSON.
        let mut headers = head.headers;
        headers.insert(http::header::ACCEPT, http::HeaderValue::from_static("*/*"));
        let outbound = Outbound::new(target).map_err(|fault| other(fault.to_string()))?;
        let body = body.to_bytes().to_vec();
        let answered = outbound.forward(head.method, &headers, body).await;
        let response = answered.map_err(|error| other(error.to_string()))?;
        Ok(BytesResponse::from(response.map(Full::new)))
    }
}

impl instant_acme::HttpClient for HttpClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> BoxFuture<'static, Result<BytesResponse, Error>> {
        Box::pin(self.clone().send(request))
    }
}

fn other(why: String) -> Error {
    Error::Other(why.into())
}
