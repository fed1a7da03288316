"""The words of the Polish demo grammar, with the forms that no rule gives.

The forms follow Saloni et al., Słownik gramatyczny języka polskiego.
"""

# The columns: lemma; gender; genitive, dative, instrumental, locative and vocative singular;
# nominative and genitive plural.
# The genders: m1 masculine persons, m2 masculine animals, m3 masculine things; f feminine; n
# neuter.
NOUNS = """
student m1 studenta studentowi studentem studencie studencie studenci studentów
nauczyciel m1 nauczyciela nauczycielowi nauczycielem nauczycielu nauczycielu nauczyciele nauczycieli
lekarz m1 lekarza lekarzowi lekarzem lekarzu lekarzu lekarze lekarzy
sąsiad m1 sąsiada sąsiadowi sąsiadem sąsiedzie sąsiedzie sąsiedzi sąsiadów
kucharz m1 kucharza kucharzowi kucharzem kucharzu kucharzu kucharze kucharzy
aktor m1 aktora aktorowi aktorem aktorze aktorze aktorzy aktorów
malarz m1 malarza malarzowi malarzem malarzu malarzu malarze malarzy
kolega m1 kolegi koledze kolegą koledze kolego koledzy kolegów
kot m2 kota kotu kotem kocie kocie koty kotów
pies m2 psa psu psem psie psie psy psów
koń m2 konia koniowi koniem koniu koniu konie koni
ptak m2 ptaka ptakowi ptakiem ptaku ptaku ptaki ptaków
królik m2 królika królikowi królikiem króliku króliku króliki królików
stół m3 stołu stołowi stołem stole stole stoły stołów
dom m3 domu domowi domem domu domu domy domów
samochód m3 samochodu samochodowi samochodem samochodzie samochodzie samochody samochodów
list m3 listu listowi listem liście liście listy listów
obraz m3 obrazu obrazowi obrazem obrazie obrazie obrazy obrazów
chleb m3 chleba chlebowi chlebem chlebie chlebie chleby chlebów
ogród m3 ogrodu ogrodowi ogrodem ogrodzie ogrodzie ogrody ogrodów
las m3 lasu lasowi lasem lesie lesie lasy lasów
park m3 parku parkowi parkiem parku parku parki parków
sklep m3 sklepu sklepowi sklepem sklepie sklepie sklepy sklepów
ołówek m3 ołówka ołówkowi ołówkiem ołówku ołówku ołówki ołówków
nóż m3 noża nożowi nożem nożu nożu noże noży
zeszyt m3 zeszytu zeszytowi zeszytem zeszycie zeszycie zeszyty zeszytów
most m3 mostu mostowi mostem moście moście mosty mostów
książka f książki książce książką książce książko książki książek
gazeta f gazety gazecie gazetą gazecie gazeto gazety gazet
szkoła f szkoły szkole szkołą szkole szkoło szkoły szkół
kobieta f kobiety kobiecie kobietą kobiecie kobieto kobiety kobiet
siostra f siostry siostrze siostrą siostrze siostro siostry sióstr
ręka f ręki ręce ręką ręce ręko ręce rąk
noga f nogi nodze nogą nodze nogo nogi nóg
matka f matki matce matką matce matko matki matek
droga f drogi drodze drogą drodze drogo drogi dróg
zupa f zupy zupie zupą zupie zupo zupy zup
lampa f lampy lampie lampą lampie lampo lampy lamp
ulica f ulicy ulicy ulicą ulicy ulico ulice ulic
kuchnia f kuchni kuchni kuchnią kuchni kuchnio kuchnie kuchni
lekcja f lekcji lekcji lekcją lekcji lekcjo lekcje lekcji
łyżka f łyżki łyżce łyżką łyżce łyżko łyżki łyżek
okno n okna oknu oknem oknie okno okna okien
jabłko n jabłka jabłku jabłkiem jabłku jabłko jabłka jabłek
drzewo n drzewa drzewu drzewem drzewie drzewo drzewa drzew
miasto n miasta miastu miastem mieście miasto miasta miast
pióro n pióra pióru piórem piórze pióro pióra piór
krzesło n krzesła krzesłu krzesłem krześle krzesło krzesła krzeseł
pole n pola polu polem polu pole pola pól
zdjęcie n zdjęcia zdjęciu zdjęciem zdjęciu zdjęcie zdjęcia zdjęć
mieszkanie n mieszkania mieszkaniu mieszkaniem mieszkaniu mieszkanie mieszkania mieszkań
"""
INSTRUMENTAL_PLURAL = {"koń": "końmi"}  # of nouns that do not have the ending -ami
# Nominative singular masculine: nominative plural with masculine persons.
ADJECTIVES = {
    "nowy": "nowi", "stary": "starzy", "mały": "mali", "duży": "duzi", "młody": "młodzi",
    "dobry": "dobrzy", "biały": "biali", "czarny": "czarni", "czerwony": "czerwoni",
    "zielony": "zieloni", "piękny": "piękni", "ciekawy": "ciekawi", "wysoki": "wysocy",
    "drogi": "drodzy", "niski": "niscy", "krótki": "krótcy", "bogaty": "bogaci",
    "wesoły": "weseli", "zmęczony": "zmęczeni", "spokojny": "spokojni", "ładny": "ładni",
    "ostatni": "ostatni", "tani": "tani",
}  # fmt: skip

# The columns: imperfective, its present and past; perfective, its future and past; case of the
# object. A tense has two forms in the third person, singular and plural; the past is masculine.
VERBS = """
czytać czyta czytają czytał czytali przeczytać przeczyta przeczytają przeczytał przeczytali acc
pisać pisze piszą pisał pisali napisać napisze napiszą napisał napisali acc
kupować kupuje kupują kupował kupowali kupić kupi kupią kupił kupili acc
malować maluje malują malował malowali namalować namaluje namalują namalował namalowali acc
widzieć widzi widzą widział widzieli zobaczyć zobaczy zobaczą zobaczył zobaczyli acc
budować buduje budują budował budowali zbudować zbuduje zbudują zbudował zbudowali acc
gotować gotuje gotują gotował gotowali ugotować ugotuje ugotują ugotował ugotowali acc
szukać szuka szukają szukał szukali poszukać poszuka poszukają poszukał poszukali gen
pomagać pomaga pomagają pomagał pomagali pomóc pomoże pomogą pomógł pomogli dat
ufać ufa ufają ufał ufali zaufać zaufa zaufają zaufał zaufali dat
opiekować_się opiekuje_się opiekują_się opiekował_się opiekowali_się \
zaopiekować_się zaopiekuje_się zaopiekują_się zaopiekował_się zaopiekowali_się ins
"""

# The preposition of each place.
PLACES = {
    "park": "w", "ogród": "w", "las": "w", "sklep": "w", "kuchnia": "w", "szkoła": "w",
    "miasto": "w", "dom": "w", "most": "na", "ulica": "na", "pole": "na", "lekcja": "na",
}  # fmt: skip
# The objects that make sense with each verb.
OBJECTS = {
    "czytać": ("książka", "gazeta", "list"), "pisać": ("list", "książka"),
    "kupować": ("chleb", "obraz", "samochód", "książka", "gazeta", "lampa", "jabłko", "pióro",
                "stół", "krzesło", "zeszyt"),
    "malować": ("obraz", "kot", "drzewo", "dom", "most", "koń", "krzesło", "okno"),
    "widzieć": ("kot", "pies", "koń", "ptak", "królik", "kobieta", "student", "sąsiad", "drzewo",
                "samochód", "aktor"),
    "budować": ("dom", "most", "szkoła", "stół"), "gotować": ("zupa", "jabłko"),
    "szukać": ("kot", "pies", "książka", "ołówek", "nóż", "łyżka", "sklep", "pióro", "zeszyt",
               "droga"),
    "pomagać": ("kobieta", "matka", "siostra", "sąsiad", "kolega", "student", "nauczyciel",
                "lekarz"),
    "ufać": ("lekarz", "nauczyciel", "kolega", "siostra", "matka", "sąsiad", "pies"),
    "opiekować się": ("kot", "pies", "koń", "królik", "ogród", "siostra", "dom"),
}  # fmt: skip
PEOPLE = (
    "student", "nauczyciel", "lekarz", "sąsiad", "kucharz", "aktor", "malarz", "kolega",
    "kobieta", "siostra", "matka",
)  # fmt: skip
