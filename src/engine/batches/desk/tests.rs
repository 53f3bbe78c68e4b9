//! Where requests go, at a desk with small limits.

use http::HeaderMap;

use super::*;
use crate::provider::batch::BatchUrls;
use crate::provider::catalog::BatchProfile;

const CHAT: Endpoint = Endpoint::ChatCompletions;

/// A desk for one model, whose batches take 3 requests and 100 bytes, and whose queue takes so many tokens.
fn desk(oversized: Oversized, queue: Queue) -> Desk {
    let profile =
        BatchProfile { max_requests: 3, max_bytes: 100, window: "24h", expires_after: true };
    let server = BatchServer {
        urls: BatchUrls::new("http://127.0.0.1:9/v1").unwrap(),
        headers: HeaderMap::new(),
        key: None,
        profile,
        is_embedded: false,
    };
    let limits = BatchLimits { requests: 3, bytes: 100, tokens: None };
    let names = ("http://127.0.0.1:9/v1".to_owned(), "openai/m".to_owned());
    let lane = DeskLane::new(names, (Some(Arc::new(server)), HasBatches::Yes), (limits, queue));
    let poll = Duration::from_secs(1);
    let settings = DeskSettings { asked: Asked::Batch, oversized, waits: true, poll };
    Desk::new(settings, vec![lane], vec![Gate::Open])
}

fn place(desk: &mut Desk, bytes: u64, tokens: u64) -> Place {
    desk.place(0, (CHAT, Size { bytes, tokens }), || "token".to_owned())
}

const POLICIES: [Oversized; 3] = [Oversized::Realtime, Oversized::Wait, Oversized::Fail];

#[test]
fn a_request_that_no_file_can_hold_goes_by_a_call_unless_it_is_to_fail() {
    for (policy, wanted) in
        POLICIES.into_iter().zip([Place::Realtime, Place::Realtime, Place::Refused])
    {
        let mut desk = desk(policy, Queue::default());
        assert_eq!(place(&mut desk, 101, 1), wanted, "{policy:?}");
        assert_eq!(place(&mut desk, 100, 1), Place::In(SlotId(0)), "{policy:?}");
    }
}

#[test]
fn a_full_batch_is_closed_and_the_next_one_begun() {
    let mut desk = desk(Oversized::Realtime, Queue::default());
    let places: Vec<Place> = (0..7).map(|_| place(&mut desk, 10, 1)).collect();
    let wanted = [0, 0, 0, 1, 1, 1, 2].map(|slot| Place::In(SlotId(slot)));
    assert_eq!(places, wanted);
    let filling: Vec<bool> = desk.slots.iter().map(|slot| slot.is_filling).collect();
    assert_eq!(filling, [false, false, true]);
    assert_eq!(desk.slots[0].load.requests, 3);
}

#[test]
fn what_the_queue_has_no_room_for_goes_where_the_policy_says() {
    for (policy, wanted) in POLICIES.into_iter().zip([Place::Realtime, Place::Held, Place::Refused])
    {
        let mut desk = desk(policy, Queue::configured(20));
        assert_eq!(place(&mut desk, 10, 12), Place::In(SlotId(0)), "{policy:?}");
        assert_eq!(place(&mut desk, 10, 12), wanted, "{policy:?}");
        assert!(!desk.slots[0].is_filling, "it is sent, and not kept for what does not come");
    }
}

#[test]
fn a_little_room_is_not_worth_a_batch_of_its_own() {
    let mut desk = desk(Oversized::Realtime, Queue::configured(100));
    assert_eq!(place(&mut desk, 10, 95), Place::In(SlotId(0)));
    desk.close(0);
    assert_eq!(place(&mut desk, 10, 5), Place::Realtime, "5 of 100 tokens are left");
}

#[test]
fn one_that_is_more_than_the_whole_queue_waits_to_be_alone_in_it() {
    let mut wait = desk(Oversized::Wait, Queue::configured(20));
    assert_eq!(place(&mut wait, 10, 30), Place::In(SlotId(0)), "the limit is a guess of ours");
    assert_eq!(place(&mut wait, 10, 30), Place::Held);
    let mut calls = desk(Oversized::Realtime, Queue::configured(20));
    assert_eq!(place(&mut calls, 10, 30), Place::Realtime);
}

#[test]
fn after_the_deadline_nothing_goes_into_a_batch() {
    let mut desk = desk(Oversized::Wait, Queue::default());
    assert_eq!(place(&mut desk, 10, 1), Place::In(SlotId(0)));
    desk.is_late = true;
    desk.cancel_all();
    assert_eq!(place(&mut desk, 10, 1), Place::Realtime);
    assert_eq!(desk.slots[0].cancel, Cancel::Wanted);
    assert_eq!(desk.route(0, 1_000_000), Route::Realtime);
}
