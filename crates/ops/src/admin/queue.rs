//! `/v1/queue`: the spool as an operator sees and changes it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use merpati_plugin::body::BodyReader;
use merpati_plugin::spool::{Change, Cursor, Filter, NextHop, ParcelId, Spool, SpoolError};
use merpati_types::{MessageId, Timestamp};

use super::{CommandError, Refused, read};
use crate::api::{
    ActionRequest, Changed, ListPage, ListRequest, MessageView, ParcelView, Selection, StatsView,
};

/// A page of the queue, unless asked otherwise.
const PAGE: usize = 100;
/// The largest page.
const PAGE_LIMIT: usize = 1_000;
/// What one request to change looks at, unless asked otherwise.
const STEP: usize = 1_000;
/// The largest step.
const STEP_LIMIT: usize = 10_000;

type Shared = State<Arc<dyn Spool>>;
type Answer = Result<Response, Refused>;

pub(super) fn router(spool: Arc<dyn Spool>) -> Router {
    Router::new()
        .route("/v1/queue/stats", get(stats))
        .route("/v1/queue/list", post(list))
        .route("/v1/queue/message/{id}", get(show))
        .route("/v1/queue/message/{id}/raw", get(raw))
        .route("/v1/queue/{action}", post(act))
        .with_state(spool)
}

async fn stats(State(spool): Shared) -> Answer {
    let stats = spool.stats().await.map_err(refused)?;
    Ok(Json(StatsView::from(stats)).into_response())
}

async fn list(State(spool): Shared, body: Bytes) -> Answer {
    let request: ListRequest = read(&body)?;
    let filter = filter(&request.selection)?;
    let cursor = request.cursor.as_deref().map(cursor).transpose()?;
    let most = request.limit.unwrap_or(PAGE).clamp(1, PAGE_LIMIT);
    let listed = spool.list(&filter, cursor, most).await.map_err(refused)?;
    let more = listed.len() == most;
    let parcels: Vec<_> = listed.iter().map(ParcelView::of).collect();
    let cursor = parcels.last().filter(|_| more).map(|last| last.id.clone());
    Ok(Json(ListPage { parcels, cursor }).into_response())
}

async fn show(State(spool): Shared, Path(id): Path<String>) -> Answer {
    let filter = Filter { id: Some(message_id(&id)?), ..Filter::default() };
    let parcels = spool.list(&filter, None, PAGE_LIMIT).await.map_err(refused)?;
    let view = MessageView::of(&parcels).ok_or_else(|| refused(SpoolError::NotFound))?;
    Ok(Json(view).into_response())
}

async fn raw(State(spool): Shared, Path(id): Path<String>) -> Answer {
    let message = spool.message(message_id(&id)?).await.map_err(refused)?;
    let reader = message.open().await.map_err(refused)?;
    let headers = [
        (header::CONTENT_TYPE, "message/rfc822".to_owned()),
        (header::CONTENT_LENGTH, message.size().to_string()),
    ];
    Ok((headers, Body::from_stream(stream::try_unfold(reader, next))).into_response())
}

type Reader = Box<dyn BodyReader>;

async fn next(mut reader: Reader) -> std::io::Result<Option<(Bytes, Reader)>> {
    Ok(reader.next().await?.map(|piece| (piece, reader)))
}

async fn act(State(spool): Shared, Path(action): Path<String>, body: Bytes) -> Answer {
    let request: ActionRequest = read(&body)?;
    let chosen = Selection { all: false, ..request.selection.clone() };
    if chosen == Selection::default() && !request.selection.all {
        let text = "nothing is selected; say all if you mean every parcel";
        return Err(CommandError::Wrong(text.to_owned()).into());
    }
    let filter = filter(&request.selection)?;
    let reason = request.reason.as_deref().unwrap_or("held by the operator");
    let due = now();
    let change = match action.as_str() {
        "hold" => Change::Hold { reason: reason.to_owned() },
        "release" => Change::Release { due },
        "retry" => Change::Requeue { due },
        "bounce" => Change::Expire { due },
        "delete" => Change::Delete,
        other => return Err(CommandError::NotFound(format!("no action `{other}`")).into()),
    };
    let after = request.cursor.as_deref().map(cursor).transpose()?;
    let step = request.step.unwrap_or(STEP).clamp(1, STEP_LIMIT);
    let done = spool.change(&filter, &change, after, step).await.map_err(refused)?;
    let changed = done.parcels;
    if changed > 0 {
        let selection = serde_json::to_string(&request.selection).unwrap_or_default();
        tracing::info!(event = "queue changed", action, changed, selection);
    }
    let next = done.next.map(|Cursor(parcel)| parcel.to_string());
    Ok(Json(Changed { changed, next }).into_response())
}

fn filter(selection: &Selection) -> Result<Filter, CommandError> {
    let ago = |seconds: u64| before(now(), Duration::from_secs(seconds));
    let domain = selection.domain.as_ref().map(|domain| domain.to_ascii_lowercase());
    Ok(Filter {
        id: selection.id.as_deref().map(message_id).transpose()?,
        sender: selection.sender.clone(),
        recipient: selection.recipient.clone(),
        next_hop: domain.map(|domain| NextHop::from_text(&domain)),
        state: selection.state.map(Into::into),
        arrived_before: selection.older_seconds.map(ago),
        arrived_after: selection.younger_seconds.map(ago),
        reason: selection.reason.clone(),
    })
}

/// `message/number`, as [`ParcelId`] shows itself.
fn cursor(text: &str) -> Result<Cursor, CommandError> {
    let wrong = || CommandError::Wrong("not a cursor".to_owned());
    let (message, number) = text.split_once('/').ok_or_else(wrong)?;
    let number = number.parse().map_err(|_| wrong())?;
    Ok(Cursor(ParcelId { message: message_id(message)?, number }))
}

fn message_id(text: &str) -> Result<MessageId, CommandError> {
    text.parse().map_err(|error| CommandError::Wrong(format!("`{text}`: {error}")))
}

pub(super) fn refused(error: SpoolError) -> Refused {
    let text = error.to_string();
    Refused(match error {
        SpoolError::NotFound => CommandError::NotFound(text),
        _ => CommandError::Unavailable(text),
    })
}

pub(super) fn now() -> Timestamp {
    // A clock before 1970 is broken; the epoch is as good as what it says.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn before(moment: Timestamp, time: Duration) -> Timestamp {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(moment.as_millis().saturating_sub(millis))
}
