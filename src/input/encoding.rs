//! Which encoding a table is in.
//!
//! A wrong guess here is silent: every answer would be bought for garbled text. So there are three
//! rules, and everything else is refused with the name to pass as `--encoding`:
//!
//! 1. A byte order mark is believed, over `--encoding` too. Then `--encoding` is.
//! 2. Bytes that are UTF-8 from the first one outside ASCII on, for as far as the sample goes, make
//!    the whole file UTF-8: one broken byte later is an error, never a change of mind. A file is
//!    ASCII until its first other byte, and only there is the question put; so a CP949 file that
//!    turns Korean after a million lines is still recognized, since nothing before depends on it.
//! 3. A multi-byte encoding of Korean, Japanese or Chinese is taken where three things agree: the
//!    detector's guess, a sample without a single malformed sequence, and letters of the scripts
//!    such a text is written in. Single-byte encodings accept any bytes, so they are never guessed.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{BIG5, EUC_JP, EUC_KR, Encoding, GB18030, GBK, SHIFT_JIS, UTF_8};
use encoding_rs::{UTF_16BE, UTF_16LE};

use super::error::Problem;

/// Whether more may follow what is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ahead {
    /// More may follow.
    More,
    /// This is the end.
    Nothing,
}

/// What a sample tells about the encoding of the file it is from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Guess {
    /// Certain enough to read on.
    Is(&'static Encoding),
    /// Not certain; the most likely ones, best first.
    Perhaps(Vec<&'static str>),
}

/// Finds an encoding by a name that a person typed.
///
/// Takes every label of the WHATWG Encoding Standard, and what Python, Java and Windows call them.
pub(super) fn by_name(label: &str) -> Result<&'static Encoding, Problem> {
    let folded = label.trim().to_ascii_lowercase();
    let known = match folded.as_str() {
        "cp949" | "ms949" | "uhc" | "euc_kr" => Some(EUC_KR),
        "utf-8-sig" | "utf_8" | "utf8mb4" => Some(UTF_8),
        "utf16" | "utf-16" | "utf_16" | "utf_16_le" | "utf16le" => Some(UTF_16LE),
        "utf_16_be" | "utf16be" => Some(UTF_16BE),
        "cp932" => Some(SHIFT_JIS),
        "euc_jp" => Some(EUC_JP),
        "cp936" => Some(GB18030),
        "cp950" => Some(BIG5),
        _ => Encoding::for_label_no_replacement(folded.as_bytes()),
    };
    known.ok_or_else(|| Problem::UnknownEncoding { label: label.to_owned() })
}

/// Finds UTF-16 without a byte order mark by where its NULs stand.
///
/// Even a text without a Latin letter has ASCII in it, as delimiters and line ends; in UTF-16 each
/// of them has a NUL on one and the same side.
pub(super) fn by_nuls(head: &[u8]) -> Option<&'static Encoding> {
    let pairs = head.len() / 2;
    let (mut little, mut big) = (0, 0);
    for pair in head.chunks_exact(2) {
        match (pair[0], pair[1]) {
            (0, 0) => return None,
            (_, 0) => little += 1,
            (0, _) => big += 1,
            (_, _) => {}
        }
    }
    let dominant = |side: usize, other: usize| side >= 2 && side * 10 >= pairs && side > other * 4;
    if dominant(little, big) {
        Some(UTF_16LE)
    } else if dominant(big, little) {
        Some(UTF_16BE)
    } else {
        None
    }
}

/// Recognizes the encoding of a text from a sample that starts at its first byte outside ASCII.
pub(super) fn recognize(sample: &[u8], ahead: Ahead) -> Guess {
    if is_mostly_utf8(sample, ahead) {
        return Guess::Is(UTF_8);
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(sample, ahead == Ahead::Nothing);
    let guess = match detector.guess(None, Utf8Detection::Deny) {
        guess if guess == GBK => GB18030,
        guess => guess,
    };
    if is_plausible(guess, sample, ahead) {
        return Guess::Is(guess);
    }
    let mut likely = vec![guess.name()];
    if guess != EUC_KR && is_plausible(EUC_KR, sample, ahead) {
        likely.push(EUC_KR.name());
    }
    Guess::Perhaps(likely)
}

/// Tells UTF-8 with a few broken bytes from what never was UTF-8.
///
/// The former must be read as UTF-8, so that the error names the broken byte.
fn is_mostly_utf8(sample: &[u8], ahead: Ahead) -> bool {
    let (mut good, mut broken) = (0, 0);
    for chunk in sample.utf8_chunks() {
        good += chunk.valid().bytes().filter(|byte| !byte.is_ascii()).count();
        broken += usize::from(!chunk.invalid().is_empty());
    }
    if let (Ahead::More, Err(error)) = (ahead, std::str::from_utf8(sample))
        && error.error_len().is_none()
    {
        return true;
    }
    good >= 4 * broken
}

/// Says whether a sample is a faultless text of the language that `encoding` is for.
fn is_plausible(encoding: &'static Encoding, sample: &[u8], ahead: Ahead) -> bool {
    if ![EUC_KR, SHIFT_JIS, EUC_JP, GB18030, BIG5].contains(&encoding) {
        return false;
    }
    let Some(text) = decode_all(encoding, sample, ahead) else { return false };
    let letters = Letters::of(&text);
    let (own, needed) = if encoding == EUC_KR {
        (letters.hangul, letters.hangul > 0)
    } else if encoding == SHIFT_JIS || encoding == EUC_JP {
        (letters.kana + letters.han, letters.kana > 0)
    } else {
        (letters.han, letters.han > 0)
    };
    needed && own * 10 >= letters.all * 7
}

fn decode_all(encoding: &'static Encoding, sample: &[u8], ahead: Ahead) -> Option<String> {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let room = decoder.max_utf8_buffer_length_without_replacement(sample.len())?;
    let mut text = String::with_capacity(room);
    let last = ahead == Ahead::Nothing;
    let (result, _) = decoder.decode_to_string_without_replacement(sample, &mut text, last);
    (result == encoding_rs::DecoderResult::InputEmpty).then_some(text)
}

/// How many letters outside ASCII a text has, by script.
struct Letters {
    all: usize,
    hangul: usize,
    kana: usize,
    han: usize,
}

impl Letters {
    fn of(text: &str) -> Self {
        let mut letters = Self { all: 0, hangul: 0, kana: 0, han: 0 };
        for c in text.chars().filter(|c| !c.is_ascii() && c.is_alphabetic()) {
            letters.all += 1;
            match c {
                '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}' | '\u{ac00}'..='\u{d7a3}' => {
                    letters.hangul += 1;
                }
                '\u{3040}'..='\u{30ff}' | '\u{ff66}'..='\u{ff9f}' => letters.kana += 1,
                '\u{3005}'..='\u{3007}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' => {
                    letters.han += 1;
                }
                _ => {}
            }
        }
        letters
    }
}

#[cfg(test)]
mod tests {
    use encoding_rs::{WINDOWS_1251, WINDOWS_1252, WINDOWS_1254};

    use super::*;

    fn guess(encoding: &'static Encoding, text: &str) -> Guess {
        let (bytes, _, unmappable) = encoding.encode(text);
        assert!(!unmappable, "{text} is not in {}", encoding.name());
        recognize(&bytes, Ahead::Nothing)
    }

    #[test]
    fn korean_japanese_and_chinese_are_recognized_in_a_few_words() {
        let cases = [
            (EUC_KR, "한국"),
            (EUC_KR, "이름,나이\n홍길동,20\n"),
            (EUC_KR, "똠방각하 펲시콜라 쀍\n"),
            (EUC_KR, "배송이 빠르고 좋아요\n별로예요 다시는 안 사요\n"),
            (SHIFT_JIS, "とても良い商品です\n"),
            (EUC_JP, "とても良い商品です\n"),
            (GB18030, "这个产品很好，我很喜欢\n"),
            (BIG5, "這個產品很好，我很喜歡\n"),
        ];
        for (encoding, text) in cases {
            assert_eq!(guess(encoding, text), Guess::Is(encoding), "{text}");
        }
    }

    #[test]
    fn a_single_byte_encoding_is_named_and_not_taken() {
        let cases = [
            (WINDOWS_1252, "é, Müller, Größe\n"),
            (WINDOWS_1252, "°C\n"),
            (WINDOWS_1252, "ÀÉÖÜ\n"),
            (WINDOWS_1252, "“quoted” – dash\n"),
            (WINDOWS_1251, "Привет, мир\n"),
            (WINDOWS_1251, "Спасибо большое за быструю доставку\n"),
            (WINDOWS_1254, "şğıİ çok güzel\n"),
        ];
        for (encoding, text) in cases {
            match guess(encoding, text) {
                Guess::Is(taken) => panic!("{text} was taken for {}", taken.name()),
                Guess::Perhaps(likely) => assert!(!likely.is_empty()),
            }
        }
        assert_eq!(guess(WINDOWS_1252, "é Müller"), Guess::Perhaps(vec!["windows-1252"]));
    }

    #[test]
    fn a_kanji_only_guess_is_not_certain_enough() {
        let korean_hanja = guess(EUC_KR, "서울\n부산\n大韓民國\n");
        let Guess::Perhaps(_) = korean_hanja else { panic!("{korean_hanja:?}") };
    }

    #[test]
    fn utf8_with_a_broken_byte_stays_utf8() {
        let mut bytes = "안녕하세요, 반갑습니다".as_bytes().to_vec();
        bytes.extend(b"\xff and on");
        assert_eq!(recognize(&bytes, Ahead::Nothing), Guess::Is(UTF_8));
    }

    #[test]
    fn utf8_cut_inside_a_character_is_utf8_only_if_more_follows() {
        let cut = &"é한".as_bytes()[..3];
        assert_eq!(recognize(cut, Ahead::More), Guess::Is(UTF_8));
        assert_ne!(recognize(&"é".as_bytes()[..1], Ahead::Nothing), Guess::Is(UTF_8));
    }

    #[test]
    fn utf16_is_found_by_its_nuls_and_a_stray_nul_is_not_utf16() {
        let little: Vec<u8> =
            "이름,값\n가나,1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = "이름,값\n가나,1\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(by_nuls(&little), Some(UTF_16LE));
        assert_eq!(by_nuls(&big), Some(UTF_16BE));
        assert_eq!(by_nuls(b"id,text\n1,a\0b\n2,plain text that goes on\n"), None);
        assert_eq!(by_nuls(b"a\0"), None);
        assert_eq!(by_nuls(b"\0\0\0\0"), None);
        assert_eq!(by_nuls(b""), None);
    }

    #[test]
    fn the_names_people_type_are_known() {
        for name in ["cp949", "CP949", "ms949", "uhc", "euc-kr", "EUC_KR", "windows-949"] {
            assert_eq!(by_name(name).unwrap(), EUC_KR, "{name}");
        }
        assert_eq!(by_name(" utf-8-sig ").unwrap(), UTF_8);
        assert_eq!(by_name("latin1").unwrap(), WINDOWS_1252);
        for name in ["", "klingon", "iso-2022-kr", "replacement"] {
            assert!(by_name(name).is_err(), "{name}");
        }
    }
}
