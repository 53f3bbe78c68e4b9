//! The words that rows and replies are made of, drawn by a seed.

use fastrand::Rng;

const ENGLISH: &str = "
    the be to of and a in that have it for not on with he as you do at this but his by from they we say her she or an
    will my one all would there their what so up out if about who get which go me when make can like time no just him
    know take people into year your good some could them see other than then now look only come its over think also back
    after use two how our work first well way even new want because any these give day most us delivery late staff
    replaced packaging damaged surprisingly value money order unless price rise further quality remain acceptable
    battery last screen bright enough outside instruction missing support answer quickly kindly return arrived box
    broken seal customer service refund exchange warranty month week hour minute charge cable adapter plastic smell
    strong weak handle lid kettle water boil steam noise quiet loud night morning office desk lamp light warm cold
    jacket rain wind zipper pocket size small large medium fit tight loose colour picture different exactly expected
    disappointed happy recommend friend mother daughter son gift birthday christmas cheap expensive worth penny feel
    look sound bass treble connect bluetooth phone laptop tablet pair disconnect update app setting manual button press
    hold stopped working repair shop sent again received second third wrong model version older newer compare brand
    competitor honest review star rating minus plus overall otherwise however although maybe never always sometimes
    often rarely twice once comfortable walk run trail shoe sole grip mud wet dry stain wash shrink fade paper ink bleed
    page cover ring binder pen write draw smooth rough edge corner scratch dent bent crack glue tape wrapped bubble
    envelope courier door neighbour signature tracking number delayed customs fee tax invoice email call waited line
    polite rude helpful useless perfect terrible average fine okay great awful decent solid flimsy heavy light compact
    bulky elegant ugly simple complicated easy hard";
const KOREAN: &str = "
    배송이 늦었지만 상품은 훌륭했어요 포장이 꼼꼼하고 가격도 적당합니다 다시 주문할 의향이 있습니다 색상이 사진과 조금
    달라서 아쉬웠지만 친절하게 교환해 주셨습니다 배터리가 이틀 정도 가네요 화면이 밝고 선명해요 설명서가 없어서 한참
    헤맸습니다 선물로 샀는데 아주 좋아하셨어요 추천합니다 그런데 생각보다 작고 가벼워서 들고 다니기 편합니다 소리가 너무
    커서 밤에는 쓰기 어렵네요 고객센터에 전화했더니 바로 환불해 주겠다고 하더라고요 연결이 자꾸 끊기고 충전도 느려요
    디자인은 마음에 드는데 마감이 거칠어요 냄새가 심해서 며칠 동안 베란다에 두었습니다 부모님께 드렸더니 따뜻하다고
    하십니다 사이즈가 한 치수 크게 나온 것 같아요 물이 새서 반품했습니다 상자가 찌그러져 왔지만 내용물은 멀쩡했어요 두
    번째 구매인데 여전히 만족합니다 버튼이 뻑뻑하고 글씨가 잘 안 보여요 가성비가 좋다고 해서 기대했는데 그냥 그래요 세탁
    후에 줄어들었어요 발이 편하고 미끄럽지 않습니다 종이가 얇아서 뒷면에 비쳐요 택배 기사님이 문 앞에 두고 가셨는데 비를
    맞았네요";
/// What words that no vocabulary has are made of.
const ENGLISH_PARTS: &str =
    "bra kel mo vin ta stro pe lun zar qui do fen ix ock war thi ple gan sho ry us ember ton";
const KOREAN_PARTS: &str =
    "뿌 링 클 휘 낭 시 에 몽 슈 곰 탱 갤 럭 벨 쿠 토 핑 찌 릿 뭉 촉 쫀 득 팡";

/// Draws words: mostly common ones, the first of each list more often, and now and then one that nobody knows.
pub(crate) struct Words {
    english: Vec<&'static str>,
    korean: Vec<&'static str>,
    english_parts: Vec<&'static str>,
    korean_parts: Vec<&'static str>,
}

impl Words {
    pub(crate) fn new() -> Self {
        let split = |words: &'static str| words.split_whitespace().collect();
        Self {
            english: split(ENGLISH),
            korean: split(KOREAN),
            english_parts: split(ENGLISH_PARTS),
            korean_parts: split(KOREAN_PARTS),
        }
    }

    fn put(&self, text: &mut String, (is_korean, rng): (bool, &mut Rng)) {
        // Even a Korean text has English words in it.
        let is_korean = is_korean && rng.u8(..) > 24;
        let (words, parts) = match is_korean {
            true => (&self.korean, &self.korean_parts),
            false => (&self.english, &self.english_parts),
        };
        match rng.u8(..) {
            0..25 => (0..rng.u8(2..5)).for_each(|_| text.push_str(parts[rng.usize(..parts.len())])),
            25..32 => text.push_str(&rng.u16(..2_000).to_string()),
            _ => text.push_str(words[rng.usize(..words.len()).min(rng.usize(..words.len()))]),
        }
    }

    /// Appends words until `text` is `bytes` long; now and then with a quote, a line break or a comma among them.
    pub(crate) fn fill(&self, text: &mut String, bytes: usize, (is_korean, rng): (bool, &mut Rng)) {
        while text.len() < bytes {
            match rng.u8(..) {
                0..3 => {
                    text.push('"');
                    self.put(text, (is_korean, rng));
                    text.push_str("\" ");
                }
                3..5 => {
                    self.put(text, (is_korean, rng));
                    text.push_str(".\n");
                }
                5..16 => {
                    self.put(text, (is_korean, rng));
                    text.push_str(", ");
                }
                _ => {
                    self.put(text, (is_korean, rng));
                    text.push(' ');
                }
            }
        }
        while text.ends_with([' ', '\n', ',', '.']) {
            text.pop();
        }
        text.push('.');
    }
}
