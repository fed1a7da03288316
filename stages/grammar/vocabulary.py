"""The words of the Japanese demo grammar, and which of them make sense together.

Level 2 adds words to every table. An action is a verb with the particle of its noun, the particles
that would be wrong there (each an error with one correction), its nouns, and the places and manners
that fit it.

The file is long because it is a list of words: it has little logic that could be moved elsewhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from stages.grammar.conjugation import Adjective, AdjectiveKind, Noun, Verb, VerbKind


@dataclass(frozen=True, slots=True)
class Action:
    """A verb with the particle and the nouns that it takes.

    never: the particles that are wrong in place of `particle`.   manners: adverbs, or adjectives
    that become adverbs.
    """

    verb: Verb
    particle: str
    never: str
    nouns: tuple[Noun, ...]
    places: tuple[str, ...]
    manners: tuple[str | Adjective, ...]
    level: int


def _texts(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _verb(text: str) -> Verb:
    """The verb of a text such as 読む五, whose last character is the verb's kind."""
    return Verb(text[:-1], cast(VerbKind, text[-1]))


def _nouns(texts: str) -> tuple[Noun, ...]:
    return tuple(NOUNS[text] for text in texts.split())


def _table(text: str, columns: int) -> list[list[str]]:
    """Rows of cells, separated by `|` in the text; missing cells at the end of a row are empty."""
    rows = [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]
    return [row + [""] * (columns - len(row)) for row in rows]


NOUNS = {
    word: Noun(word, kind, counter, level)
    for level, text in enumerate(
        (
            """
            reading | 冊 | 本 雑誌 辞書
            news    |    | 新聞 日記 作文
            letter  | 通 | 手紙
            picture | 枚 | 写真 切手 切符
            show    |    | 映画 音楽 歌
            media   |    | テレビ ラジオ
            machine | 台 | 車 自転車 カメラ パソコン
            long    | 本 | 傘 ペン 鉛筆
            flower  | 本 | 花
            fruit   | 個 | りんご みかん 卵
            dish    |    | パン すし カレー ラーメン ケーキ 料理 弁当
            drink   | 杯 | お茶 コーヒー 牛乳 水
            shirt   | 枚 | シャツ セーター
            clothes | 着 | コート 着物
            shoes   | 足 | 靴 靴下
            plate   | 枚 | 皿
            animal  | 匹 | 犬 猫
            bird    | 羽 | 鳥
            person  | 人 | 学生 子供 先生 友達
            ride    |    | バス 電車 タクシー 船 飛行機
            place   |    | 部屋 教室 公園 町 店
            subject |    | 日本語 英語 数学 歴史 漢字 ピアノ
            sport   |    | テニス サッカー
            task    |    | 宿題 仕事 テスト
            part    |    | 窓 ドア 椅子 ベンチ お風呂 山 名前 手
            family  |    | 母 父 妹 弟
            job     |    | 医者 会社員 歌手
            """,
            """
            reading | 冊 | 小説 漫画 絵本 教科書
            letter  | 通 | メール
            picture | 枚 | 絵 地図
            machine | 台 | 時計 冷蔵庫
            long    | 本 | ネクタイ
            root    | 本 | にんじん
            fruit   | 個 | 桃 トマト 玉ねぎ
            dish    |    | うどん 天ぷら 夕食 肉 野菜
            drink   | 杯 | 紅茶 スープ
            clothes | 着 | スーツ
            animal  | 匹 | うさぎ
            person  | 人 | 留学生 警官
            place   |    | 図書館 美術館 台所 庭 研究室
            subject |    | 経済 文法 ダンス
            task    |    | 授業 試験 会議 掃除
            part    |    | 荷物 机 箱 橋 川 道 歯 大学 高校 家賃 お金 言葉 髪
            family  |    | 祖母 祖父 先輩 同僚
            job     |    | 看護師 弁護士 画家
            """,
        ),
        start=1,
    )
    for kind, counter, words in _table(text, 3)
    for word in words.split()
}

PRAISE = {"+": True, "-": False, "": None}
ADJECTIVES = {
    word: Adjective(
        word, cast(AdjectiveKind, ending), frozenset(kinds.split()), PRAISE[sign], level
    )
    for level, text in enumerate(
        (
            """
            い | + | 面白い | reading show
            い | - | 難しい | reading subject task
            い | + | 新しい | reading machine shirt clothes shoes long place
            い | - | 古い | reading machine clothes shoes place picture
            い | - | 高い | reading machine shirt clothes shoes fruit
            い | + | 安い | reading machine shirt clothes shoes fruit dish
            い | + | おいしい | dish fruit drink
            い | + | 甘い | fruit
            い |   | 熱い | drink
            い |   | 冷たい | drink
            い |   | 赤い | shirt clothes shoes long flower
            い |   | 白い | shirt clothes shoes plate animal bird flower
            い |   | 黒い | clothes shoes animal bird
            い |   | 大きい | animal bird plate
            い |   | 小さい | animal bird plate
            い | + | かわいい | animal bird
            い | + | 広い | place
            い | - | 狭い | place
            い | + | 明るい | place
            い | - | 暗い | place
            い | + | 優しい | person family
            い | + | 若い | person
            い |   | 忙しい | person family
            い |   | 早い | adverb
            い |   | 速い | adverb
            い | + | 楽しい | task
            な | + | 静か | place
            な | + | にぎやか | place
            な | + | きれい | place picture plate shirt flower
            な | + | 便利 | machine
            な | + | 親切 | person family
            な | + | 元気 | person family animal
            な | + | 有名 | show
            な | + | 簡単 | task
            な | - | 大変 | task
            な |   | 上手 | adverb
            """,
            """
            い | - | 重い | machine reading
            い | + | 軽い | machine reading
            い | + | 珍しい | picture bird
            い | + | 美しい | picture flower
            い | - | 厳しい | person family
            い | - | 汚い | place
            い | - | 厚い | reading
            い | + | 暖かい | clothes shirt
            い | + | 温かい | drink
            な | + | 丈夫 | machine shoes
            な | - | 複雑 | subject machine
            な | - | 退屈 | show task
            な | + | 立派 | person clothes
            な | - | 不便 | place
            な | + | 真面目 | person family
            な | + | 新鮮 | fruit root
            な |   | 丁寧 | adverb
            """,
        ),
        start=1,
    )
    for ending, sign, word, kinds in _table(text, 4)
}

ACTIONS = tuple(
    Action(
        _verb(verb),
        pattern[:1],
        pattern[1:],
        _nouns(nouns),
        _texts(places),
        tuple(ADJECTIVES.get(manner, manner) for manner in manners.split()),
        level,
    )
    for level, text in enumerate(
        (
            """
            読む五 | をがに | 本 雑誌 新聞 手紙 | 図書館 部屋 家 公園 | ゆっくり 静か
            書く五 | をが | 手紙 日記 作文 漢字 | 部屋 教室 家 | ゆっくり 上手 きれい
            食べる一 | をがに | りんご みかん 卵 パン すし カレー ラーメン \
                     | 食堂 家 レストラン | ゆっくり たくさん
            飲む五 | をがに | お茶 コーヒー 牛乳 水 | 喫茶店 食堂 家 | ゆっくり 静か
            買う五 | をがに | 本 雑誌 辞書 りんご みかん 卵 花 傘 ペン 鉛筆 | 店 デパート | たくさん
            買う五 | をがに | 靴 靴下 シャツ セーター コート | 店 デパート |
            買う五 | をがに | カメラ パソコン 自転車 車 | 店 |
            見る一 | をが | 映画 テレビ 写真 | 家 部屋 | ゆっくり 静か
            聞く五 | をが | 音楽 歌 ラジオ | 家 部屋 公園 | ゆっくり 静か
            作る五 | をが | カレー ケーキ 料理 弁当 | 台所 家 | 上手
            洗う五 | をがに | 皿 シャツ 靴 靴下 | 家 | きれい
            使う五 | をが | パソコン 辞書 カメラ ペン | 教室 会社 部屋 | 上手
            借りる一 | をがに | 本 雑誌 辞書 | 図書館 |
            撮る五 | をが | 写真 | 公園 海 駅 | 上手 たくさん
            習う五 | をが | 日本語 英語 ピアノ | 学校 |
            勉強するサ | をがに | 日本語 英語 数学 歴史 漢字 | 図書館 学校 部屋 家 | 静か
            待つ五 | をに | バス 電車 タクシー | 駅 | 静か
            開ける一 | をに | 窓 ドア | | ゆっくり 静か
            閉める一 | をに | 窓 ドア | | ゆっくり 静か
            着る一 | をがに | シャツ セーター コート 着物 | | きれい
            脱ぐ五 | をがに | 靴 靴下 コート セーター | | ゆっくり
            歌う五 | をが | 歌 | 教室 公園 学校 | 上手 楽しい
            覚える一 | をが | 漢字 歌 名前 | | 早い
            するサ | をが | 宿題 | 家 部屋 図書館 | 早い
            するサ | をが | テニス サッカー | 公園 学校 | 楽しい
            起きる一 | | | | 早い
            寝る一 | | | | 早い
            休む五 | | | 家 部屋 公園 | ゆっくり
            働く五 | | | 会社 病院 銀行 店 | 元気
            泳ぐ五 | | | 海 プール | 速い 上手 ゆっくり
            走る五 | | | 公園 | 速い 元気 ゆっくり
            遊ぶ五 | | | 公園 海 家 | 楽しい 元気
            会う五 | にをで | 友達 先生 | 駅 喫茶店 公園 |
            乗る五 | にをで | バス 電車 タクシー 船 飛行機 自転車 | |
            入る五 | にをで | 部屋 教室 店 お風呂 | | 静か ゆっくり
            座る五 | にをで | 椅子 ベンチ | | 静か ゆっくり
            登る五 | にで | 山 | | ゆっくり 元気
            電話するサ | にをで | 友達 先生 母 | 駅 会社 家 |
            """,
            """
            読む五 | をがに | 小説 漫画 絵本 教科書 | 研究室 | 静か
            食べる一 | をがに | うどん 天ぷら 桃 トマト | 食堂 旅館 | ゆっくり
            飲む五 | をがに | 紅茶 スープ | 旅館 喫茶店 | ゆっくり
            買う五 | をがに | 小説 絵 地図 時計 ネクタイ スーツ 桃 トマト にんじん 玉ねぎ \
                   | 市場 商店街 | たくさん
            描く五 | をが | 絵 地図 | 美術館 庭 | 上手 丁寧
            直す五 | をがに | 時計 自転車 パソコン カメラ | 工場 | 丁寧 簡単
            運ぶ五 | をが | 荷物 机 椅子 箱 | | ゆっくり 丁寧
            切る五 | をがに | 野菜 にんじん 玉ねぎ 肉 | 台所 | 上手 丁寧
            焼く五 | をが | 肉 パン | 庭 台所 | 上手
            払う五 | をが | 家賃 お金 | | すぐに
            磨く五 | をがに | 靴 歯 窓 | | 丁寧 きれい
            片付ける一 | をが | 部屋 机 荷物 台所 | | きれい すぐに
            調べる一 | をが | 言葉 歴史 文法 | 研究室 図書館 | 丁寧
            練習するサ | をが | ピアノ ダンス 漢字 文法 | 体育館 学校 | 真面目
            準備するサ | をが | 夕食 弁当 会議 授業 | | 丁寧 すぐに
            集める一 | をが | 切手 地図 漫画 | | たくさん
            送る五 | をが | 荷物 メール 手紙 | 郵便局 | すぐに
            勉強するサ | をがに | 経済 文法 | 研究室 大学 | 真面目
            渡る五 | をにが | 橋 川 道 | | ゆっくり
            降りる一 | をに | バス 電車 タクシー | | 静か すぐに
            散歩するサ | をに | 公園 町 庭 | | ゆっくり
            卒業するサ | をにが | 大学 高校 | |
            相談するサ | にをで | 先輩 先生 同僚 | 会社 大学 | 丁寧
            着る一 | をがに | スーツ | | 立派
            """,
        ),
        start=1,
    )
    for verb, pattern, nouns, places, manners in _table(text, 5)
)

PEOPLE = {1: _texts("私 私 私 僕 父 母 兄 姉 弟 妹 友達 先生 田中さん 山田さん 鈴木さん 木村さん")}
PEOPLE[2] = (
    *PEOPLE[1],
    *_texts("祖父 祖母 先輩 後輩 同僚 社長 店長 佐藤さん 中村さん 小林さん 高橋さん 留学生"),
)
SPEAKERS = ("私", "僕")
RELATIVES = _texts("母 父 兄 姉 弟 妹 友達 祖母 同僚")

DAYS = {
    ("past", 1): _texts("昨日 おととい 先週 先月 去年"),
    ("future", 1): _texts("明日 あさって 来週 来月 来年"),
    ("time", 1): _texts("毎日 毎朝 毎晩 毎週"),
    ("past", 2): _texts("昨日 おととい 先週 先月 去年 昨夜 先日 先週の土曜日 昨日の朝 去年の夏"),
    ("future", 2): _texts("明日 あさって 来週 来月 来年 明日の朝 明日の夜 来週の日曜日 来年の春"),
    ("time", 2): _texts("毎日 毎朝 毎晩 毎週 毎月 週末 日曜日 いつも ときどき"),
}
"""The days by role and level. The role is the tense: past, future, or the present of habits."""

LONG_SPANS = frozenset(_texts("先週 先月 去年 来週 来月 来年 去年の夏 来年の春 毎週 毎月"))
"""Days that are too long to be combined with a clock time."""

BY_THE_CLOCK = (
    Verb("起きる", "一"),
    Verb("寝る", "一"),
    Verb("出かける", "一"),
    Verb("帰る", "五"),
)
HOURS = {1: tuple(f"{number}時" for number in "五六七八九十")}
HOURS[2] = (*HOURS[1], *(f"{number}時半" for number in "五六七八九十"))

NUMBERS = tuple("二三四五六七")


@dataclass(frozen=True, slots=True)
class Motion:
    """A verb of motion with its possible goals."""

    verb: Verb
    goals: tuple[str, ...]
    level: int


MEANS = _texts("バス 電車 タクシー 自転車 車")
FAR_MEANS = ("飛行機", "船")
FAR = frozenset(_texts("日本 国 北海道 沖縄 外国"))
MOTIONS = (
    Motion(
        Verb("行く", "五"),
        _texts("図書館 学校 公園 駅 会社 病院 銀行 海 山 デパート 東京 京都 大阪"),
        1,
    ),
    Motion(Verb("来る", "カ"), _texts("学校 家 町 公園 会社 日本 東京"), 1),
    Motion(Verb("帰る", "五"), _texts("家 国 町 日本"), 1),
    Motion(
        Verb("行く", "五"), _texts("美術館 空港 大学 研究室 市場 郵便局 映画館 北海道 沖縄 外国"), 2
    ),
    Motion(Verb("出かける", "一"), _texts("美術館 市場 海岸 商店街 温泉 旅行"), 2),
    Motion(Verb("着く", "五"), _texts("空港 駅 大学 旅館 北海道"), 2),
)


@dataclass(frozen=True, slots=True)
class Gift:
    """A verb with a receiver (に) and an object (を); `nouns` are its possible objects."""

    verb: Verb
    nouns: tuple[Noun, ...]
    level: int


GIFTS = tuple(
    Gift(_verb(verb), _nouns(nouns), level)
    for level, text in enumerate(
        (
            """
            書く五 | 手紙
            あげる一 | 花 本 ケーキ りんご
            教える一 | 日本語 英語 数学 歌 漢字
            貸す五 | 本 辞書 傘 自転車 ペン
            """,
            """
            見せる一 | 写真 絵 地図 切手
            送る五 | 荷物 メール 絵本 桃
            頼む五 | 仕事 掃除 料理
            渡す五 | 荷物 地図 切符 教科書
            """,
        ),
        start=1,
    )
    for verb, nouns in _table(text, 2)
)

RECEIVERS = _texts("友達 母 父 妹 弟 先生")


@dataclass(frozen=True, slots=True)
class Feeling:
    """A predicate whose object has が, where learners write を.

    nouns: the possible objects.   of_others: whether it is only said of others, because it is
    praise.
    """

    word: Verb | Adjective
    nouns: tuple[str, ...]
    level: int
    of_others: bool = False


FEELINGS = (
    Feeling(Adjective("好き", "な"), _texts("音楽 映画 すし りんご 犬 猫 歌 料理 テニス 海 花"), 1),
    Feeling(Adjective("嫌い", "な"), _texts("卵 牛乳 犬 猫 数学 テスト 宿題 ラーメン"), 1),
    Feeling(
        Adjective("上手", "な"),
        _texts("料理 テニス サッカー ピアノ 歌 日本語 英語"),
        1,
        of_others=True,
    ),
    Feeling(Verb("わかる", "五"), _texts("日本語 英語 漢字 数学"), 1),
    Feeling(Adjective("苦手", "な"), _texts("経済 文法 ダンス 掃除 料理 漢字"), 2),
    Feeling(Adjective("得意", "な"), _texts("ダンス 文法 ピアノ 絵 水泳"), 2, of_others=True),
)

ARU, IRU = Verb("ある", "五"), Verb("いる", "一")
SPOTS = {
    (ARU, 1): _texts("机の上 椅子の下 箱の中 かばんの中 部屋 教室"),
    (IRU, 1): _texts("公園 家の前 部屋 木の下 駅の前 店の前"),
}
SPOTS[ARU, 2] = (*SPOTS[ARU, 1], *_texts("棚の上 引き出しの中 ソファの横 台所 窓の近く 研究室"))
SPOTS[IRU, 2] = (*SPOTS[IRU, 1], *_texts("橋の近く 銀行の隣 庭 校庭 門の前 郵便局の前"))


@dataclass(frozen=True, slots=True)
class Thing:
    """A thing or being with its verb of existence, ある or いる."""

    noun: Noun
    verb: Verb
    level: int


_BEINGS = ("animal", "bird", "person")
THINGS = tuple(
    Thing(noun, IRU if noun.kind in _BEINGS else ARU, noun.level)
    for noun in NOUNS.values()
    if noun.kind in (*_BEINGS, "reading", "long", "fruit", "letter", "plate", "flower")
    and noun.text not in ("先生", "メール")
)

REGIONS = _texts("東京 京都 大阪 北海道 沖縄")
WEATHER = {1: tuple(Adjective(text, "い") for text in ("暑い", "寒い", "暖かい", "涼しい"))}
WEATHER[2] = (
    *WEATHER[1],
    Adjective("蒸し暑い", "い"),
    Adjective("静か", "な"),
    Adjective("穏やか", "な"),
)

DURATIVE = frozenset(
    _texts(
        "読む 書く 食べる 飲む 見る 聞く 作る 洗う 使う 習う 勉強する 待つ 歌う する 休む 働く 泳ぐ"
        " 走る 遊ぶ 描く 直す 運ぶ 切る 焼く 磨く 片付ける 調べる 練習する 準備する 相談する"
        " 散歩する"
    )
)
"""Verbs whose ている form means an action in progress."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A clause that gives a reason, and the actions that may follow from it.

    subject: the noun before が, or "".   word: the clause's predicate.   past: its tense; None =
    that of the main clause.   verbs: the possible verbs of the main clause.   places: the possible
    places of its action; () = the action's own.
    """

    subject: str
    word: Verb | Adjective
    past: bool | None
    verbs: frozenset[str]
    places: tuple[str, ...]


def _reason(
    subject: str, word: Verb | Adjective, past: bool | None, verbs: str, place: str = ""
) -> Reason:
    return Reason(subject, word, past, frozenset(verbs.split()), _texts(place))


INDOORS = "読む 見る 聞く 勉強する 作る"
REASONS = (
    _reason("雨", Verb("降る", "五"), True, INDOORS, "家 部屋"),
    _reason("雪", Verb("降る", "五"), True, INDOORS, "家 部屋"),
    _reason("風", Adjective("強い", "い"), None, INDOORS + " 閉める", "家 部屋"),
    _reason("天気", Adjective("いい", "い"), None, "遊ぶ 走る 歌う 撮る 読む 休む", "公園 海"),
    _reason("", Adjective("暖かい", "い"), None, "遊ぶ 走る 読む 休む", "公園 海"),
    _reason("", Adjective("暑い", "い"), None, "泳ぐ 開ける 飲む"),
    _reason("", Adjective("寒い", "い"), None, "着る 閉める 入る"),
    _reason("のど", Verb("渇く", "五"), True, "飲む"),
    _reason("お腹", Verb("すく", "五"), True, "食べる 作る"),
    _reason("頭", Adjective("痛い", "い"), None, "休む 寝る"),
    _reason("", Adjective("眠い", "い"), None, "寝る 休む"),
    _reason("", Verb("疲れる", "一"), True, "寝る 休む 座る"),
    _reason("試験", Verb("ある", "五"), False, "勉強する 覚える 起きる 借りる"),
    _reason("友達", Verb("来る", "カ"), False, "作る 片付ける 準備する 待つ"),
    _reason("時間", Verb("ある", "五"), False, "読む 書く 描く 片付ける 磨く 練習する 散歩する"),
    _reason("部屋", Adjective("静か", "な"), None, "勉強する 読む 書く", "部屋"),
    _reason("部屋", Adjective("暗い", "い"), None, "開ける"),
    _reason("仕事", Adjective("大変", "な"), None, "休む 寝る 相談する"),
)

INCOMPATIBLE_ADJECTIVES = (
    ("面白い", "退屈"), ("新しい", "古い"), ("高い", "安い"), ("広い", "狭い"), ("明るい", "暗い"),
    ("優しい", "厳しい"), ("重い", "軽い"), ("きれい", "汚い"), ("簡単", "難しい"),
    ("簡単", "大変"), ("簡単", "複雑"), ("楽しい", "退屈"), ("親切", "厳しい"),
    ("美しい", "きれい"),
)  # fmt: skip
"""Pairs of adjectives that do not describe the same thing together: opposites and synonyms."""

NOT_DAILY = frozenset(("買う", "卒業する", "直す", "借りる", "払う"))
"""Verbs of actions that nobody does every day."""

COUNTABLE_OBJECT = frozenset(
    _texts("買う 食べる 飲む 読む 書く 借りる 洗う 見る 撮る 描く 集める 運ぶ 送る 切る 直す")
)
"""Verbs with which it is natural to say how many objects there are."""

GOAL_POSSIBLE = frozenset(("走る", "借りる", "送る", "描く", "書く"))
"""Verbs whose place can have に as well as で, because it can be a goal."""

DEGREES = {1: ("とても", "少し"), 2: ("とても", "少し", "本当に")}

ADDRESSES = {1: ("先生", "部長"), 2: ("先生", "部長", "社長")}


def incompatible(one: Adjective, other: Adjective) -> bool:
    return one == other or any(
        {one.text, other.text} == set(pair) for pair in INCOMPATIBLE_ADJECTIVES
    )


def _named(verb: str) -> Iterator[Action]:
    return (action for action in ACTIONS if action.verb.text == verb)


MADE_AND_USED = tuple(
    (making, using, noun)
    for made, uses in (
        ("書く", "読む"),
        ("作る", "食べる 準備する"),
        ("買う", "読む 食べる 着る 脱ぐ 使う 磨く 切る 直す"),
        ("撮る", "見る"),
        ("借りる", "読む 使う"),
        ("描く", "見る 集める"),
        ("送る", "読む 運ぶ"),
        ("歌う", "聞く 覚える"),
    )
    for used in uses.split()
    for making in _named(made)
    for using in _named(used)
    for noun in making.nouns
    if noun in using.nouns
)
"""(action, another action, noun): the noun is the object of both, such as a letter that one person
has written and another reads."""

SIDE_BY_SIDE = tuple(
    (aside, main)
    for one, others in (
        ("聞く", "走る 勉強する 作る 洗う 片付ける 描く 直す 磨く 休む"),
        ("歌う", "洗う 作る 散歩する 描く 磨く"),
        ("飲む", "読む 見る 書く 待つ 休む 勉強する"),
        ("見る", "食べる 休む 練習する"),
        ("食べる", "見る 待つ 聞く"),
    )
    for other in others.split()
    for aside in _named(one)
    for main in _named(other)
)
"""(secondary action, main action): pairs of actions that one person can do at the same time."""
