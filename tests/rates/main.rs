//! Whole runs against a provider that meters, in a world whose time is the runtime's own: minutes pass in a moment, and
//! the provider's ledger says how many of them were used.
//!
//! What is demanded is a duration: a run of so many requests may take what the provider's rate says, and a twentieth
//! more. What a full bucket lets through at once counts for the provider's side, so that nothing is given away.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "a run on real sockets takes real time")]

mod run;
mod socket;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use run::{Came, Scene, play};

const MINUTE: Duration = Duration::from_mins(1);

/// Demands that a run has used the rate of requests and was hardly ever refused.
#[track_caller]
fn hold_requests(came: &Came, scene: &Scene, rpm: u32) {
    let beyond = f64::from(scene.rows) - scene.bucket * f64::from(rpm);
    hold(came, MINUTE.mul_f64(beyond / f64::from(rpm)));
}

/// Demands the same of a rate of tokens, where each request is charged alike.
#[track_caller]
fn hold_tokens(came: &Came, scene: &Scene, tpm: u32) {
    let charged = f64::from(scene.rows) * f64::from(scene.charged_tokens());
    let beyond = charged - scene.bucket * f64::from(tpm);
    hold(came, MINUTE.mul_f64(beyond / f64::from(tpm)));
}

#[track_caller]
fn hold(came: &Came, shortest: Duration) {
    assert!(shortest >= MINUTE, "{shortest:?} is too short to tell");
    let used = shortest.as_secs_f64() / came.took.as_secs_f64();
    let refused = came.refused as f64 / (came.refused + came.charged) as f64;
    let told = format!("{:.1}% used, {} of {} refused", used * 100.0, came.refused, came.charged);
    assert!(used >= 0.95 && refused < 0.01, "{told}");
}

#[test]
fn a_low_rate_of_requests_is_used() {
    for latency in [0.05, 1.0, 5.0] {
        let scene = Scene { rows: 400, rpm: Some(60), ..Scene::at(latency) };
        hold_requests(&play(&scene), &scene, 60);
    }
}

#[test]
fn a_high_rate_of_requests_is_used() {
    for (latency, concurrency) in [(0.05, None), (5.0, Some(1_000))] {
        let scene = Scene { rows: 6_500, rpm: Some(3_000), concurrency, ..Scene::at(latency) };
        hold_requests(&play(&scene), &scene, 3_000);
    }
}

#[test]
fn a_bucket_that_is_empty_is_noticed_at_the_first_call() {
    let scene = Scene { rows: 1_200, rpm: Some(600), bucket: 0.0, ..Scene::at(1.0) };
    hold_requests(&play(&scene), &scene, 600);
}

#[test]
fn rates_of_tokens_are_used() {
    for (tpm, rows) in [(10_000, 700), (150_000, 4_000)] {
        let scene = Scene { rows, tpm: Some(tpm), max_tokens: Some(100), ..Scene::at(1.0) };
        hold_tokens(&play(&scene), &scene, tpm);
    }
    // Nothing says how long an answer may be, so what is guessed of it is far off what is charged.
    let scene = Scene { rows: 1_600, tpm: Some(10_000), words: 60, ..Scene::at(1.0) };
    hold_tokens(&play(&scene), &scene, 10_000);
}

#[test]
fn of_two_rates_the_narrower_is_used() {
    let both = Scene { rows: 2_400, max_tokens: Some(100), ..Scene::at(0.5) };
    let scene = Scene { rpm: Some(600), tpm: Some(100_000), ..both.clone() };
    hold_requests(&play(&scene), &scene, 600);
    let scene = Scene { rpm: Some(1_000), tpm: Some(60_000), ..both };
    hold_tokens(&play(&scene), &scene, 60_000);
}

#[test]
fn two_prompts_on_one_model_share_its_rate() {
    let scene = Scene { rows: 2_400, prompts: 2, rpm: Some(600), ..Scene::at(1.0) };
    hold_requests(&play(&scene), &scene, 600);
}

#[test]
fn what_somebody_else_leaves_of_a_rate_is_used() {
    let scene = Scene { rows: 1_500, rpm: Some(600), others_rpm: 240, ..Scene::at(1.0) };
    let came = play(&scene);
    // All that the provider had in that time, less what the other one took.
    let left = 600.0 + 600.0 * came.took.as_secs_f64() / 60.0 - came.others as f64;
    let used = f64::from(scene.rows) / left;
    let refused = came.refused as f64 / f64::from(scene.rows);
    assert!(used >= 0.9 && refused < 0.01, "{:.1}% used, {refused:.3} refused", used * 100.0);
}

#[test]
fn without_headers_refusals_teach_the_rate() {
    let scene = Scene { rows: 3_600, rpm: Some(600), has_headers: false, ..Scene::at(1.0) };
    let came = play(&scene);
    let shortest = MINUTE.mul_f64(f64::from(scene.rows) / 600.0 - 1.0);
    assert!(came.took.mul_f64(0.9) <= shortest, "{:?} instead of {shortest:?}", came.took);
    let steady = came.refused_after(MINUTE);
    assert!(steady <= came.charged / 50, "{steady} refused after the first minute");
}

#[test]
fn a_second_run_knows_the_rate_of_the_first_and_a_week_later_no_more() {
    for has_headers in [true, false] {
        let scene = Scene { rows: 1_200, rpm: Some(600), has_headers, runs: 2, ..Scene::at(0.2) };
        let came = play(&scene);
        let rates = came.remembered.unwrap();
        let rate = rates.requests.unwrap();
        assert!((540..=660).contains(&rate), "{rate} a minute, headers {has_headers}");
        // The second run goes on at once, with what the first has left: nothing.
        let refused = came.refused_in_last_run;
        // Without headers it takes some of them before they are taken for a limit.
        let most = if has_headers { 6 } else { 24 };
        assert!(refused <= most, "{refused} of 600 refused, headers {has_headers}");
        assert!(came.forgotten, "a week later it is remembered still");
    }
}

#[test]
fn nothing_is_learned_where_nothing_is_said() {
    let scene = Scene { rows: 300, ..Scene::at(0.2) };
    let came = play(&scene);
    assert_eq!(came.remembered, None);
    assert!(came.took < Duration::from_secs(10), "{:?}", came.took);
}

#[test]
fn a_rate_of_ones_own_holds_in_every_minute() {
    let scene = Scene { rows: 700, rpm: Some(3_000), own_rpm: Some(300), ..Scene::at(0.3) };
    let came = play(&scene);
    let most = came.most_in_a_minute();
    assert!((285..=301).contains(&most), "{most} in a minute");
    assert_eq!(came.refused, 0);
}
