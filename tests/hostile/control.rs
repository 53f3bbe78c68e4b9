//! Hostile replies to the calls about files and batches: every scene at every endpoint.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::calls::no_error_repeats_a_body;
use crate::child::watch;
use crate::plays::{MARKER, SCENES, act};
use crate::support::Act;
use crate::support::batches::runs::{all_answered_once, project, query, texts};
use crate::support::batches::{BatchProvider, Do, Kind, Script};

const BOUND: Duration = Duration::from_mins(3);
const RUN: &[&str] =
    &["run", "--route", "batch", "--poll", "20ms", "--timeout", "1s", "--batch-size", "1"];

/// Plays every scene at an endpoint, two before each good call, and demands that nothing is bought twice or lost.
fn each_scene_at(kind: Kind, before: impl Fn(Kind, usize) -> Do + Send + Sync + 'static) {
    let left: Arc<Mutex<VecDeque<_>>> = Arc::new(Mutex::new(SCENES.iter().collect()));
    let scenes = Arc::clone(&left);
    let provider = BatchProvider::start(Script {
        on: Box::new(move |this, nth| {
            if this != kind || nth % 3 == 0 {
                return before(this, nth);
            }
            match scenes.lock().unwrap().pop_front() {
                // What is done all the same has to be found again.
                Some(scene) if nth % 2 == 0 => Do::Despite(act(scene.play)),
                Some(scene) => Do::Instead(act(scene.play)),
                None => before(this, nth),
            }
        }),
        ..Script::default()
    });
    let texts = texts(SCENES.len());
    let folder = project(&provider, &texts, &[]);
    let mut ended = watch(&folder, RUN, BOUND);
    // A batch that met too many of them in a row is left to the next run.
    for _ in 0..5 {
        if ended.said.code == Some(4) {
            ended = watch(&folder, RUN, BOUND);
        }
    }
    let ended = ended.ends(0);
    assert_eq!(left.lock().unwrap().len(), 0, "every scene was played");
    all_answered_once(&folder, &provider, &texts);
    assert_eq!(provider.batches().len(), texts.len(), "each batch is made once");
    no_error_repeats_a_body(&folder);
    assert!(!ended.said.stderr.contains(MARKER), "{:?}", ended.said);
    let calls = provider.kinds().len();
    watch(&folder, RUN, BOUND).ends(0);
    assert_eq!(provider.kinds().len(), calls, "a second run has nothing to do");
    assert!(ended.peak_kib < 400 << 10, "{} KiB", ended.peak_kib);
    println!(
        "{} hostile replies at {kind:?}: {:?}, {} KiB",
        SCENES.len(),
        ended.took,
        ended.peak_kib
    );
}

fn right(_: Kind, _: usize) -> Do {
    Do::Right
}

#[test]
fn an_upload_that_meets_a_hostile_reply_is_found_or_sent_again() {
    each_scene_at(Kind::Upload, right);
}

#[test]
fn a_creation_that_meets_a_hostile_reply_is_found_or_made_again() {
    each_scene_at(Kind::Create, right);
}

#[test]
fn a_look_that_meets_a_hostile_reply_is_repeated() {
    each_scene_at(Kind::Look, right);
}

#[test]
fn a_download_that_meets_a_hostile_reply_is_begun_again() {
    each_scene_at(Kind::Content, right);
}

#[test]
fn a_list_of_files_that_is_hostile_is_asked_for_again() {
    each_scene_at(Kind::Files, |kind, _| match kind {
        Kind::Upload => Do::Despite(Act::Close),
        _ => Do::Right,
    });
}

#[test]
fn a_list_of_batches_that_is_hostile_proves_nothing() {
    each_scene_at(Kind::List, |kind, _| match kind {
        Kind::Create => Do::Despite(Act::Close),
        _ => Do::Right,
    });
}

/// A provider that stays hostile at one endpoint: the run leaves what it cannot finish, and says so.
#[test]
fn a_provider_that_stays_hostile_is_left_to_the_next_run() {
    let slow = SCENES.iter().find(|scene| scene.name == "slow chunks").unwrap();
    let flood = SCENES.iter().find(|scene| scene.name == "a body without end").unwrap();
    for (kind, scene) in [
        (Kind::Upload, flood),
        (Kind::Create, flood),
        (Kind::Look, flood),
        (Kind::Look, slow),
        (Kind::Content, slow),
    ] {
        let is_hostile = Arc::new(Mutex::new(true));
        let now = Arc::clone(&is_hostile);
        let play = scene.play;
        let provider = BatchProvider::start(Script {
            on: Box::new(move |this, _| match this == kind && *now.lock().unwrap() {
                true => Do::Instead(act(play)),
                false => Do::Right,
            }),
            ..Script::default()
        });
        let texts = texts(2);
        let folder = project(&provider, &texts, &[]);
        let args = ["run", "--route", "batch", "--poll", "10ms", "--timeout", "200ms"];
        let ended = watch(&folder, &args, BOUND).ends(4);
        println!("{kind:?} stays hostile ({}): {:?}", scene.name, ended.took);
        *is_hostile.lock().unwrap() = false;
        watch(&folder, RUN, BOUND).ends(0);
        all_answered_once(&folder, &provider, &texts);
    }
}

#[test]
fn a_listing_without_end_is_given_up_and_creates_nothing() {
    let page = |nth: usize, next: &str| {
        Act::json(
            200,
            &json!({"object": "list", "has_more": true, "last_id": next, "data": [
                {"id": format!("batch_{nth}"), "object": "batch", "status": "completed"}]}),
        )
    };
    for way in 0..3 {
        let provider = BatchProvider::start(Script {
            on: Box::new(move |kind, nth| match kind {
                Kind::Create if nth == 1 => Do::Despite(Act::Close),
                // The same page for ever, two that point at each other, and none at all.
                Kind::List if nth < 6 => Do::Instead(match way {
                    0 => page(nth, "batch_1"),
                    1 => page(nth, &format!("batch_{}", nth % 2)),
                    _ => Act::json(
                        200,
                        &json!({"object": "list", "has_more": true, "data": [], "last_id": "x"}),
                    ),
                }),
                _ => Do::Right,
            }),
            ..Script::default()
        });
        let texts = texts(2);
        let folder = project(&provider, &texts, &[]);
        let run = ["run", "--route", "batch", "--poll", "20ms"];
        // A cursor out of a lie may be one that the truth does not know, which stops the run.
        let ends: Vec<_> = (0..3).map(|_| watch(&folder, &run, BOUND).said.code).collect();
        assert!(matches!(ends[0], Some(0 | 1)) && ends[2] == Some(0), "{ends:?}");
        assert!(provider.take_breaches().iter().all(|breach| breach.contains("a list after ")));
        all_answered_once(&folder, &provider, &texts);
        assert_eq!(provider.batches().len(), 1);
    }
}

#[test]
fn results_that_go_on_for_ever_fill_no_disk() {
    for endless in ["\n", "{}\n", "{\"custom_id\":\"nobody\"}\n", "x"] {
        let provider = BatchProvider::start(Script {
            lines: Box::new(move |_, output, _| {
                // As many as the bound lets pass, and more.
                let more = if endless == "x" { 90 << 20 } else { 40_000 };
                let line = endless.trim_end().as_bytes();
                match endless {
                    "x" => output.push(b"x".repeat(more)),
                    _ => output.extend(std::iter::repeat_n(line.to_vec(), more)),
                }
            }),
            ..Script::default()
        });
        let texts = texts(3);
        let folder = project(&provider, &texts, &[]);
        let ended = watch(&folder, &["run", "--route", "batch", "--poll", "20ms"], BOUND).ends(0);
        all_answered_once(&folder, &provider, &texts);
        let strays: u64 = query(&folder, "SELECT count(*) FROM stray_line")[0][0].parse().unwrap();
        assert!(strays <= 11_000, "{strays}");
        assert!(ended.peak_kib < 300 << 10, "{} KiB", ended.peak_kib);
    }
}

#[test]
fn lies_about_counts_and_ids_lead_nowhere() {
    let provider = BatchProvider::start(Script {
        object: Box::new(|_, batch| {
            batch["request_counts"] =
                json!({"total": -7, "completed": 18_446_744_073_709_551_615_u64, "failed": "all"});
            batch["usage"] = json!({"input_tokens": 1e300});
            batch["expires_at"] = json!(-1);
            batch["created_at"] = json!(1e300);
            batch["errors"] = json!({"data": vec![Value::Null; 50_000]});
        }),
        ..Script::default()
    });
    let texts = texts(5);
    let folder = project(&provider, &texts, &[]);
    watch(&folder, RUN, BOUND).ends(0);
    all_answered_once(&folder, &provider, &texts);
}
