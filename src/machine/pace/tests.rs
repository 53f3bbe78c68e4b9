//! The pace in simulated time.

mod provider;
mod steady;

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn failed(class: FailureClass, asked: Option<Duration>) -> Landing {
    Landing::Failed(Failed { class, asked, is_first_try: true })
}

/// Starts as a person asked, with nothing remembered.
fn pace(settings: PaceSettings) -> Pace {
    Pace::new(settings, Rates::default())
}

fn by_hand(concurrency: u32) -> Pace {
    pace(PaceSettings { concurrency: Some(concurrency), ..PaceSettings::default() })
}

fn landed(number: u64, how: Landing) -> Landed {
    let (requests, tokens) = (LimitSeen::default(), LimitSeen::default());
    Landed { number, took: Duration::ZERO, guessed: 1, counted: None, requests, tokens, how }
}

/// Sends as fast as the pace allows to a provider that takes `latency`; returns the send times.
fn drive(pace: &mut Pace, requests: usize, latency: Duration, tokens: u64) -> Vec<Duration> {
    let mut now = Duration::ZERO;
    let mut sent = Vec::new();
    let mut flying: VecDeque<(Duration, u64)> = VecDeque::new();
    let land = |pace: &mut Pace, now, number| {
        pace.land(now, &Landed { took: latency, ..landed(number, Landing::Served) }, 0.5);
    };
    while sent.len() < requests {
        match pace.ask(now, tokens) {
            Permit::Go => {
                let number = pace.start(now, tokens);
                sent.push(now);
                flying.push_back((now + latency, number));
            }
            Permit::Wait(wait) => {
                assert!(!wait.is_zero() && wait <= Duration::from_hours(1));
                let landing = flying.front().copied().filter(|(at, _)| *at <= now + wait);
                now = landing.map_or(now + wait, |(at, _)| at.max(now));
                if let Some((_, number)) = landing {
                    flying.pop_front();
                    land(pace, now, number);
                }
            }
            Permit::Full => {
                let (at, number) = flying.pop_front().expect("full with nothing in flight");
                now = at.max(now);
                land(pace, now, number);
            }
        }
    }
    sent
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_minute_holds_more_than_the_rate_a_person_set(
        rpm in 1u32..3000,
        concurrency in prop::option::of(1u32..300),
        latency in 0.001f64..5.0,
    ) {
        let mut pace = pace(PaceSettings { concurrency, rpm: Some(rpm), tpm: None });
        let sent = drive(&mut pace, (rpm as usize * 2).clamp(10, 4000), secs(latency), 100);
        for (index, start) in sent.iter().enumerate() {
            let in_minute = sent[index..].iter().take_while(|at| **at < *start + secs(60.0)).count();
            prop_assert!(in_minute <= rpm as usize + 1, "{in_minute} in a minute at {rpm}");
        }
    }

    #[test]
    fn never_more_in_flight_than_allowed_and_never_stuck(
        cap in 1u32..64,
        outcomes in prop::collection::vec(0u8..6, 1..400),
    ) {
        let mut pace = by_hand(cap);
        let mut now = Duration::ZERO;
        for outcome in outcomes {
            let mut waits = 0;
            while pace.in_flight() == 0 || pace.in_flight() < cap / 2 {
                match pace.ask(now, 10) {
                    Permit::Go => drop(pace.start(now, 10)),
                    Permit::Wait(wait) => {
                        now += wait;
                        waits += 1;
                        prop_assert!(waits < 3, "waiting does not help");
                    }
                    Permit::Full => break,
                }
                prop_assert!(pace.in_flight() <= cap);
            }
            let landing = match outcome {
                0 => failed(FailureClass::RateLimited, Some(secs(2.0))),
                1 => failed(FailureClass::RateLimited, None),
                2 => failed(FailureClass::Connection, None),
                3 => failed(FailureClass::InvalidRequest, None),
                _ => Landing::Served,
            };
            pace.land(now, &landed(pace.sent.last(), landing), 0.3);
            now += secs(0.01);
        }
    }
}

#[test]
fn a_concurrency_given_by_hand_starts_at_once_and_is_the_cap() {
    let mut pace = by_hand(32);
    for _ in 0..32 {
        assert_eq!(pace.ask(Duration::ZERO, 1), Permit::Go);
        pace.start(Duration::ZERO, 1);
    }
    assert_eq!(pace.ask(Duration::ZERO, 1), Permit::Full);
    for _ in 0..100 {
        pace.land(secs(1.0), &landed(1, Landing::Served), 0.0);
        pace.start(secs(1.0), 1);
    }
    assert_eq!(pace.allowed(), 32);
}

#[test]
fn it_starts_low_and_doubles_while_answers_come() {
    let mut pace = pace(PaceSettings::default());
    assert_eq!(pace.allowed(), 8);
    drive(&mut pace, 600, secs(0.5), 1);
    assert!(pace.allowed() >= 128, "{}", pace.allowed());
}

#[test]
fn a_burst_of_refusals_is_one_cut_and_the_pause_is_obeyed() {
    let mut pace = by_hand(100);
    for _ in 0..100 {
        pace.start(Duration::ZERO, 1);
    }
    let landing = failed(FailureClass::Overloaded, Some(secs(7.0)));
    assert_eq!(pace.land(secs(1.0), &landed(1, landing), 0.0), Some(secs(7.0)));
    for number in 2..50 {
        assert_eq!(pace.land(secs(1.0), &landed(number, landing), 0.0), None);
    }
    assert_eq!(pace.allowed(), 70);
    assert_eq!(pace.ask(secs(2.0), 1), Permit::Wait(secs(6.0)));
    assert_eq!(pace.ask(secs(8.0), 1), Permit::Go);
}

#[test]
fn a_429_pauses_and_lowers_the_rate_but_not_the_number_under_way() {
    let mut pace = by_hand(100);
    for _ in 0..100 {
        pace.start(Duration::ZERO, 1);
    }
    let landing = failed(FailureClass::RateLimited, Some(secs(7.0)));
    assert_eq!(pace.land(secs(1.0), &landed(50, landing), 0.0), Some(secs(7.0)));
    assert_eq!(pace.land(secs(1.0), &landed(51, landing), 0.0), None);
    assert_eq!(pace.allowed(), 100);
    assert_eq!(pace.ask(secs(2.0), 1), Permit::Wait(secs(6.0)));
    let mut sent = 0;
    while pace.ask(secs(8.0), 1) == Permit::Go {
        pace.start(secs(8.0), 1);
        sent += 1;
    }
    assert!((1..20).contains(&sent), "{sent} at once after a refusal");
}

#[test]
fn a_run_that_knows_nothing_sends_one_and_looks() {
    let mut pace = pace(PaceSettings::default());
    let number = pace.start(secs(3.0), 1);
    assert_eq!(pace.ask(secs(3.0), 1), Permit::Wait(secs(1.0)));
    assert_eq!(pace.ask(secs(4.0), 1), Permit::Go, "it does not wait for ever");
    pace.land(secs(3.5), &landed(number, Landing::Served), 0.5);
    for _ in 0..8 {
        assert_eq!(pace.ask(secs(3.5), 1), Permit::Go);
        pace.start(secs(3.5), 1);
    }
}

#[test]
fn a_provider_that_is_away_is_looked_at_ever_less_often() {
    let mut pace = by_hand(64);
    let down = failed(FailureClass::ServerError, None);
    pace.start(Duration::ZERO, 1);
    pace.land(Duration::ZERO, &landed(1, Landing::Served), 0.0);
    let mut now = Duration::ZERO;
    for _ in 0..64 {
        pace.start(now, 1);
    }
    for _ in 0..64 {
        pace.land(now, &landed(1, down), 1.0);
    }
    assert_eq!(pace.allowed(), 1);
    let mut looks = 0;
    while now < Duration::from_mins(30) {
        match pace.ask(now, 1) {
            Permit::Go => {
                looks += 1;
                pace.start(now, 1);
                pace.land(now, &landed(1, down), 1.0);
            }
            Permit::Wait(wait) => now += wait,
            Permit::Full => unreachable!("one at a time"),
        }
    }
    assert!((30..80).contains(&looks), "{looks} looks in half an hour");
    pace.land(now, &landed(1, Landing::Served), 0.0);
    assert_eq!(pace.ask(now + secs(60.0), 1), Permit::Go);
}

#[test]
fn rows_that_fail_again_and_again_do_not_look_like_a_provider_that_is_away() {
    let mut pace = by_hand(10);
    pace.start(Duration::ZERO, 1);
    pace.land(Duration::ZERO, &landed(1, Landing::Served), 0.0);
    for _ in 0..100 {
        pace.start(secs(1.0), 1);
        let class = FailureClass::ServerError;
        let again = Failed { class, asked: None, is_first_try: false };
        assert_eq!(pace.land(secs(1.0), &landed(1, Landing::Failed(again)), 1.0), None);
    }
    assert_eq!(pace.allowed(), 10);
}

#[test]
fn headers_hold_the_rate_before_a_429_does() {
    let mut pace = by_hand(50);
    let number = pace.start(Duration::ZERO, 1);
    let requests = LimitSeen {
        per_minute: Some(60.0),
        remaining: Some(0.0),
        reset: Some(Duration::from_mins(1)),
    };
    let landing = Landed { requests, ..landed(number, Landing::Served) };
    pace.land(Duration::ZERO, &landing, 0.5);
    assert!(matches!(pace.ask(Duration::ZERO, 1), Permit::Wait(wait) if wait >= secs(0.9)));
    assert_eq!(pace.ask(secs(10.0), 1), Permit::Go, "no header is believed for ever");
    assert_eq!(pace.learned(), Rates { requests: Some(60), tokens: None });
}

#[test]
fn what_shares_a_reply_takes_nothing_of_the_rate() {
    let settings = PaceSettings { concurrency: Some(4), rpm: Some(6), tpm: Some(600) };
    let mut pace = pace(settings);
    for _ in 0..1000 {
        assert_eq!(pace.ask(Duration::ZERO, 5), Permit::Go);
        pace.start(Duration::ZERO, 5);
        pace.withdraw(5);
    }
    pace.start(Duration::ZERO, 5);
    assert!(matches!(pace.ask(Duration::ZERO, 5), Permit::Wait(_)), "a call does");
}
