//! The bearer token that TCP clients show (RFC 6750 §2.1).

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use merpati_types::Secret;
use subtle::ConstantTimeEq;

/// Puts the demand for a token before every route.
pub(super) fn demand(router: Router, token: Secret<String>) -> Router {
    router.layer(middleware::from_fn_with_state(Arc::new(token), check))
}

async fn check(State(token): State<Arc<Secret<String>>>, request: Request, next: Next) -> Response {
    let shown = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let expected = token.expose().as_bytes();
    if shown.is_some_and(|shown| shown.ct_eq(expected).into()) {
        return next.run(request).await;
    }
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response()
}
