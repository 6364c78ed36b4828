"""The words and sentences that the corpus is made of.

Kinds of tags, each with sentences of its own, since "made for every dog" can't be said of "durable":
  who   one living being    people  several    adj   a quality      made   a material
  what  a thing, countable  use     an activity or a stuff           place  where it is used
  any   a word that the model does not know: sentences that suit every kind
"""


def words(s):
    return [w.strip() for w in s.replace("\n", " ").split(",") if w.strip()]


TAGS = {
    "who": words("""dog, cat, puppy, kitten, rabbit, bird, horse, hamster, baby, toddler, beginner, runner, gardener, cook, student, traveller,
        gamer, artist, teacher, commuter, camper, fish, parrot, climber, cyclist, barista, photographer, musician, reader, child"""),
    "people": words("""kids, adults, women, men, families, teens, seniors, dogs, cats, pets, beginners, professionals, couples, students, travellers,
        runners, children, babies, parents, artists, gamers, dancers, teachers, campers, friends, athletes, makers, collectors"""),
    "adj": words("""durable, soft, waterproof, lightweight, colorful, washable, reusable, organic, handmade, vintage, modern, classic, portable,
        wireless, foldable, compact, eco-friendly, non-slip, adjustable, rechargeable, quiet, warm, cozy, breathable, elegant, stylish,
        affordable, premium, natural, vegan, gluten-free, sugar-free, spicy, sweet, crunchy, fresh, fun, playful, bright, small, large,
        blue, red, green, black, white, sturdy, smart, fast, safe, gentle, fragrance-free, recyclable, ergonomic, heat-resistant,
        dishwasher-safe, chewable, interactive, luxurious, minimal, rustic, seasonal, stackable, magnetic, multiple, lightproof, edible"""),
    "made": words("""cotton, wool, leather, steel, stainless steel, bamboo, oak, pine, glass, ceramic, silicone, rubber, linen, silk, canvas,
        aluminium, titanium, recycled plastic, cork, hemp, felt, denim, fleece, paper, copper, brass, walnut, carbon fiber, porcelain, nylon"""),
    "what": words("""toy, rope, ball, bed, bowl, leash, collar, treat, mug, pan, knife, lamp, chair, table, tent, backpack, jacket, shirt, hat,
        scarf, watch, phone, camera, keyboard, mouse, speaker, notebook, pen, puzzle, game, book, guitar, candle, soap, gift, snack,
        blanket, pillow, bottle, wallet, bag, bike, helmet, planter, shovel, hammer, drill, brush, mirror, costume, accessory, chew"""),
    "use": words("""hiking, camping, running, cooking, baking, gaming, reading, travel, training, fitness, yoga, sleep, comfort, play, catnip,
        teeth, coffee, tea, gardening, fishing, swimming, cycling, music, photography, painting, cleaning, storage, lighting, skin care,
        dental care, grooming, exercise, relaxation, meditation, study, work, teamwork, commuting, breakfast, dessert, barbecue, health,
        style, safety, fun and games, free shipping, summer, winter, outdoor fun, water, sports, feathers, charging, streaming"""),
    "place": words("""kitchen, garden, office, bedroom, bathroom, living room, workshop, garage, classroom, studio, balcony, car, gym, beach,
        boat, patio, pool, nursery, hallway, desk, pond, aquarium, caravan"""),
}

HEADS = {  # what products are called, one; several
    "pet": ("rope, chew toy, teaser wand, bed, bowl, leash, collar, feeder, scratching post, tunnel, plush, treat dispenser, carrier, ball launcher, harness, rubber duck, flying disc, aquarium",
            "treats, chew bones, mice, feathers, biscuits, squeakers"),
    "kitchen": ("mug, frying pan, chef knife, cutting board, kettle, teapot, blender, toaster, wok, bread box, coffee grinder, skillet, whisk, lunch box, espresso maker, apron",
                "bowls, plates, glasses, spoons, coasters, knives"),
    "outdoor": ("tent, backpack, sleeping bag, headlamp, water bottle, camp stove, hammock, compass, cooler, trail map, walking pole, dry bag, lantern, multi-tool",
                "hiking boots, binoculars, snowshoes, trekking poles"),
    "tech": ("keyboard, mouse, monitor, speaker, charger, webcam, laptop stand, router, power bank, microphone, tablet, smart watch, phone case, USB hub, drone, game controller",
             "headphones, earbuds, smart glasses, cables"),
    "clothing": ("jacket, hoodie, scarf, rain coat, t-shirt, wool hat, dress, belt, sweater, cap, skirt, blazer", "sneakers, jeans, socks, gloves, sandals, sunglasses, slippers"),
    "home": ("lamp, armchair, rug, candle, blanket, pillow, mirror, bookshelf, vase, clock, desk, storage box, doormat, picture frame, curtain, sofa, side table", "cushions, towels, bookends, hooks"),
    "food": ("coffee, green tea, hot sauce, olive oil, chocolate bar, honey, granola, jam, pasta, cheese, sourdough, lemonade, spice mix", "cookies, noodles, crackers, almonds, dumplings"),
    "office": ("notebook, fountain pen, planner, desk organizer, stapler, calendar, sketchbook, whiteboard, pencil case", "pencils, sticky notes, markers, envelopes, paper clips"),
    "beauty": ("face cream, soap bar, shampoo, lip balm, perfume, hand lotion, hair brush, bath bomb, sunscreen", "bath salts, nail files, face masks"),
    "sport": ("yoga mat, bicycle, skateboard, football, tennis racket, dumbbell, jump rope, surfboard, helmet, kayak, rowing machine", "running shoes, goggles, boxing gloves, skis"),
    "kids": ("puzzle, board game, teddy bear, building set, kite, doll house, scooter, train set, story book, night light, spinning top", "blocks, crayons, marbles, stickers"),
    "garden": ("watering can, planter, bird house, garden hose, wheelbarrow, rake, greenhouse, lawn mower, compost bin, shovel", "seeds, pruning shears, flower bulbs, garden gloves"),
    "tools": ("drill, hammer, tool box, tape measure, screwdriver set, workbench, ladder, flashlight, saw, wrench", "pliers, clamps, work gloves, safety glasses"),
    "music": ("guitar, ukulele, drum kit, record player, violin, piano, metronome, harmonica, synthesizer", "drumsticks, guitar strings, maracas"),
    "travel": ("suitcase, travel pillow, passport holder, duffel bag, luggage tag, toiletry bag, travel adapter, umbrella", "packing cubes, ear plugs, compression socks"),
    "any": ("set, kit, bundle, pack, box, collection, edition, duo, trio, system, device, helper", "essentials, basics, classics"),
}

FIRST = words("""Salty, Captain, Mermaid's, Pirate, Anchors Away, Seashell, Ocean, Harbor, Golden, Silver, Urban, Nordic, Alpine, Coastal, Desert, Forest,
    Midnight, Sunrise, Lucky, Happy, Brave, Gentle, Swift, Tiny, Mighty, Cosmic, Electric, Royal, Rustic, Velvet, Iron, Maple, Cedar, Willow, River,
    Summit, Prairie, Arctic, Tropical, Secret, Grand, Little, Big, Old Town, Blue Moon, Red Fox, Green Leaf, Black Cat, White Wave, Super, Ultra, Turbo,
    Pro, Eco, Smart, Everyday, Weekend, Classic, Deluxe, Original, Modern, Vintage, Wild, Quiet, Bright, Cloud, Storm, Thunder, Honey, Ginger, Pepper""")
SECOND = words("""Sailor, Breeze, Explorer, Ranger, Comet, Falcon, Otter, Whale, Lighthouse, Compass, Voyager, Dreamer, Rider, Hunter, Keeper, Maker, Dancer,
    Spirit, Shadow, Spark, Flame, Frost, Bloom, Petal, Stone, Feather, Paw, Tail, Wave, Tide, Trail, Peak, Valley, Meadow, Nest, Den, Cove, Treasure,
    Crown, Arrow, Anchor, Snuggle, Tug, Bounce, Crunch, Glow, Pulse, Zoom, Glide, Splash, Dash, Drift, Fusion, Max, Plus, One, Mini, Lite""")
BRANDS = words("""Acme, Contoso, Fabrikam, Northwind, Tailspin, Wingtip, Adventure Works, Litware, Proseware, Woodgrove, Fourth Coffee, Lakeshore, Bluebird,
    Kestrel, Oakline, Brightside, Homestead, Marlow, Pinecrest, Redwood, Stonebridge, Tideway, Underhill, Wren & Co, Zephyr""")

# Sentences. {N} the product with its article, {n} without; {T} the tags of a group; It/it/is/s agree with the product's number.
OPEN = """Meet {N}.|Say hello to {N}.|Here {is} {N}.|Introducing {N}.|Discover {N}.|Get to know {N}.|Make room for {N}.|Treat yourself to {N}.
Bring home {N}.|Take a look at {N}.|You will love {N}.|There is a lot to like about {N}.|Make every day better with {N}.|Give {N} a try.
Good things start with {N}.|Turn an ordinary day into a good one with {N}.|Start something new with {N}.""".replace("\n", "|").split("|")

OPEN_TAG = {  # the first sentence with a group of tags
    "who": ["Meet {N}, made for every {T}.", "{Nc} {is} made with your {T} in mind.", "Surprise your {T} with {N}.", "{Nc} will make any {T} happy.", "Treat your {T} to {N}.",
            "Every {T} deserves {N}.", "Give your {T} something special with {N}.", "{Nc} {is} just right for a happy {T}."],
    "people": ["Meet {N}, made for {T}.", "{Nc} {is} made with {T} in mind.", "{Nc} {is} a hit with {T}.", "Here {is} {N}, a favorite of {T} everywhere.", "{Nc} bring{s} a smile to {T} of all kinds."],
    "adj": ["Meet {N}, as {T} as you could wish for.", "{Nc} {is} {T} and ready for anything.", "If you want something {T}, choose {N}.", "Looking for something {T}? Try {N}.", "{Nc} {is} {T}, and it shows.",
            "Discover {N}, a {T} choice for every day.", "Stay {T} with {N}."],
    "made": ["Meet {N}, made from {T}.", "Made from {T}, {N} {is} built to last.", "{Nc} {is} crafted from {T} with care.", "Discover {N} in {T}.", "Nothing feels like {T}, and {N} prove{s} it."],
    "what": ["Meet {N}, the {T} you have been waiting for.", "If you need a new {T}, choose {N}.", "{Nc} {is} more than just another {T}.", "Looking for a {T}? Here {is} {N}.", "Not every {T} is the same: discover {N}.",
             "Say hello to {N}, a {T} with character."],
    "use": ["Meet {N}, made for {T}.", "{Nc} {is} a great choice for {T}.", "Get more out of {T} with {N}.", "For {T}, nothing beats {N}.", "Enjoy {T} even more with {N}.", "{Nc} put{s} {T} first."],
    "place": ["Meet {N}, at home in every {T}.", "Bring some life to your {T} with {N}.", "{Nc} belong{s} in every {T}.", "Your {T} will look better with {N}.", "{Nc} {is} made for the {T}."],
    "any": ["Meet {N}, made with {T} in mind.", "If you are looking for {T}, try {N}.", "For everyone who loves {T}, here {is} {N}.", "{Nc} {is} all about {T}.", "Discover {N}, a fine choice for {T}.",
            "{Nc} bring{s} {T} to your door.", "Say hello to {N}, your new choice for {T}.", "When you think of {T}, think of {N}.", "Say yes to {T} with {N}.", "{Nc} {is} here for {T}.", "Add some {T} to your day with {N}."],
    "list": ["Meet {N}: {T} in one place.", "If you are looking for {T}, try {N}.", "{Nc} bring{s} together {T}.", "Discover {N}, made with {T} in mind.", "{Nc} {is} all about {T}.", "For {T}, look no further than {N}.",
             "Say hello to {N}, our pick for {T}.", "When it comes to {T}, {N} {is} hard to beat."],
}

BODY = {  # a sentence about a group of tags; a list has two or more
    "who": ["{It} keep{s} your {T} busy and content.", "Your {T} will be glad to have {it}.", "{It} {is} a joy for every {T}.", "Any {T} will take to {it} at once.", "Made for your {T}, {it} soon become{s} a favorite.",
            "{It} {is} what a {T} needs."],
    "people": ["{It} {is} a hit with {T}.", "{T0} love {it}, and so will you.", "{It} {was} made for {T}.", "{It} make{s} a fine gift for {T}.", "{It} suit{s} {T} of every kind."],
    "adj": ["{It} {is} {T}, so you can count on {it}.", "You will like how {T} {it} {is}.", "{It} {is} as {T} as can be.", "{It} stay{s} {T} for a long time.", "{It} {is} {T} and easy to enjoy.", "Being {T}, {it} fit{s} right into your life.",
            "{It} {is} {T} from the first day."],
    "made": ["{It} {is} made from {T}.", "The {T} feels right from the start.", "{It} {is} made from {T} that lasts for years.", "Careful work with {T} makes all the difference.", "Good {T} makes {it} strong."],
    "what": ["{It} {is} the {T} that you will reach for first.", "{It} {is} a {T} that does more than you expect.", "As a {T}, {it} {is} hard to beat.", "You may never need another {T}.", "{It} {is} a {T} to be proud of."],
    "use": ["{It} {is} great for {T}.", "{It} make{s} {T} easier every day.", "{It} {is} ready for {T} whenever you are.", "For {T}, {it} {is} just right.", "{It} add{s} something new to {T}.", "{It} turn{s} {T} into a pleasure."],
    "place": ["{It} look{s} good in any {T}.", "{It} {is} at home in the {T}.", "{It} {is} a welcome guest in your {T}.", "Put {it} in your {T} and enjoy.", "{It} make{s} the most of your {T}."],
    "any": ["If you are after {T}, {it} will not let you down.", "When it comes to {T}, {it} deliver{s}.", "{It} bring{s} {T} into your day.", "Looking for {T}? You have found it.", "{It} {was} put together with {T} in mind.",
            "Think {T}, and you will see why {it} stand{s} out.", "{It} {is} just the thing for {T}.", "One word says it all: {T}.", "Those who love {T} will feel at home.", "{It} give{s} you {T} and more.", "Expect {T} at its best."],
    "adjs": ["{It} {is} {T}.", "You will like that {it} {is} {T}.", "{It} {is} {T}, just as you want {it}."],
    "mades": ["{It} {is} made from {T}.", "{T} come together in one fine piece."],
    "uses": ["{It} {is} great for {T}.", "{It} {is} ready for {T}.", "Use {it} for {T}."],
    "whos": ["{It} {is} made for every {T2}.", "{It} will please a {T2} alike."],
    "list": ["{Words} say it all: {T}.", "{Words} describe {it} best: {T}.", "If you are after {T}, {it} will not let you down.", "When it comes to {T}, {it} deliver{s}.", "{It} bring{s} together {T} in one place.",
             "With {T} on the list, there is a lot to like.", "{It} cover{s} it all: {T}.", "{It} {was} put together with {T} in mind.", "Think {T}, and you will see why {it} stand{s} out.", "Looking for {T}? You have found it.",
             "{It} tick{s} every box: {T}.", "Expect {T} at their best.", "From {From}, {it} {has} you covered."],
}

HALF = {  # the first half of a sentence, which goes on with MAIN
    "who": ["Made for your {T}", "With your {T} in mind"], "people": ["Made for {T}", "Loved by {T}"], "adj": ["As {T} as it gets", "Always {T}"], "made": ["Made from {T}", "Crafted from {T}"],
    "what": ["As a {T}", "More than a {T}"], "use": ["Ideal for {T}", "Great for {T}", "Made for {T}"], "place": ["Made for the {T}", "At home in the {T}"], "any": ["With {T} in mind", "If you want {T}", "When you think of {T}"],
}
MAIN = {
    "who": ["{it} {is} just what your {T} needs", "{it} keep{s} your {T} happy"], "people": ["{it} {is} a favorite of {T}", "{it} {is} a fine choice for {T}"], "adj": ["{it} {is} {T}", "{it} stay{s} {T}", "{it} {is} {T} as well"],
    "made": ["{it} {is} made from {T}", "{it} {is} crafted from {T}"], "what": ["{it} {is} a {T} to keep", "{it} {is} the {T} to have"], "use": ["{it} {is} great for {T}", "{it} {is} ready for {T}"],
    "place": ["{it} look{s} good in the {T}", "{it} belong{s} in your {T}"], "any": ["{it} {is} a good match for {T}", "{it} bring{s} {T} along", "{it} {is} right for {T}", "{it} {has} {T} covered"],
}

CLOSE = {
    "pet": """Playtime will never be the same.|Tails will wag from morning to night.|It is time for more play and less boredom.|Your pet will come back to {it} again and again.|Happy pets make happy homes.
{It} stand{s} up to playful paws and curious noses.|Every walk and every nap gets a little better.|A happy pet is only one surprise away.""",
    "kitchen": """{It} make{s} every meal a little easier.|Good food starts with good tools.|From breakfast to dinner, {it} earn{s} {its} place.|Your next recipe is waiting.|{It} {is} easy to clean and hard to put down.
Friends will ask where you found {it}.|Cooking has never felt so simple.""",
    "outdoor": """Pack {it} and go wherever the trail leads.|The next adventure is closer than you think.|{It} {is} ready for wind, rain and sun.|Fresh air tastes better with the right gear.|{It} pack{s} small and go{es} far.
Wherever you camp, {it} will feel like home.""",
    "tech": """Plug in, switch on and enjoy.|{It} work{s} from the first minute.|Setup takes a moment, and the joy lasts for years.|{It} keep{s} up with a busy day.|Less fuss means more time for what matters.|Clever details make the difference.""",
    "clothing": """Wear {it} all day and forget that {it} {is} there.|{It} go{es} with everything you own.|Comfort and looks do not have to be strangers.|{It} feel{s} as good as {it} look{s}.|You will reach for {it} every morning.""",
    "home": """{It} make{s} a house feel like home.|A small change can light up a whole room.|{It} {is} simple, friendly and easy to live with.|Sit back and enjoy the view.|Guests will notice {it} at once.""",
    "food": """One taste and you will want more.|Share {it} with friends or keep {it} all to yourself.|Every bite tells a story.|Simple ingredients make the best flavors.|{It} taste{s} of sunny days.|Save some for tomorrow, if you can.""",
    "office": """Ideas deserve a good place to land.|Put your thoughts in order and get things done.|{It} make{s} the working day a little lighter.|Your desk will thank you.|Plans feel better when they are written down.""",
    "beauty": """Your skin will thank you.|Take a quiet moment for yourself.|A little care goes a long way.|Feel fresh from morning to night.|{It} turn{s} a daily habit into a small holiday.""",
    "sport": """Your next personal best is waiting.|Warm up, step out and have fun.|{It} help{s} you go a little further every day.|Every workout counts.|Play hard and rest well.|{It} move{s} the way you move.""",
    "kids": """Rainy afternoons will fly by.|Little hands will be busy for hours.|Imagination does the rest.|{It} turn{s} playtime into a story.|Expect big smiles.|Learning is easy when it is fun.""",
    "garden": """Watch your garden grow.|Green fingers are not required.|{It} make{s} light work of a long day outside.|The birds will approve.|Spring can come.""",
    "tools": """The job is half done already.|{It} {is} built for people who like to build.|Measure twice and enjoy the work.|Every workshop needs one good friend.|{It} stand{s} up to daily work.""",
    "music": """Turn it up and let the day sing.|Every note comes out clear.|The next song is up to you.|Practice has never been so much fun.|{It} sound{s} as good as {it} look{s}.""",
    "travel": """Pack your bags and enjoy the ride.|The journey is half the fun.|{It} make{s} every trip a little lighter.|Wherever you go, {it} come{s} along.|Good trips start with good plans.""",
    "any": """Try {it} today and see the difference.|You will wonder how you lived without {it}.|{It} {is} a small thing that makes a big difference.|Take one home today.|{It} {is} easy to like and hard to forget.|Simple, honest and well made.
There is no better time to try {it}.|{It} also make{s} a lovely gift.|Order today and see for yourself.|Quality like this is easy to enjoy.|{It} {is} ready when you are.|Some things are just made to be enjoyed.|{It} make{s} a good day even better.
You will be glad that you found {it}.|{It} fit{s} right into your day.|Every detail was made with care.|Good choices can be simple.|Once you have {it}, you will not want to give {it} back.|{It} {is} here to stay.|Find your new favorite today.""",
}
CLOSE = {k: [s for s in v.replace("\n", "|").split("|") if s] for k, v in CLOSE.items()}

CLOSE_NAME = ["With {N}, every day has something to look forward to.", "{Nc} {is} easy to love.", "Choose {N} and enjoy the difference.", "{Nc} {is} ready for you.", "You will be glad that you chose {N}.", "Make {N} yours today.",
              "Order {N} today.", "{Nc} {is} worth a closer look.", "Why wait? Get {N} today.", "Once you try {N}, you will not look back."]

# More of everything.
for _kind, _more in {
    "who": "owner, pet, cub, pony, turtle, guinea pig, chef, baker, hiker, swimmer, skater, surfer, dancer, painter, writer, collector, explorer, driver, skier, sailor, golfer, nurse, carpenter, programmer, knitter, minimalist, grandparent, hamster, ferret, guest",
    "people": "boys, girls, ladies, gentlemen, owners, puppies, kittens, birds, rabbits, horses, hikers, cooks, bakers, readers, writers, commuters, golfers, swimmers, cyclists, surfers, painters, explorers, guests, toddlers, grandparents, neighbors, roommates, learners, newcomers, big dogs, small dogs, large breeds, indoor cats",
    "adj": """retro, cushioned, insulated, leakproof, wide, narrow, slim, tall, short, heavy, tough, strong, thick, thin, sharp, smooth, flexible, hypoallergenic, biodegradable, compostable, noise-free, odorless, scented, unscented,
        odor-resistant, shockproof, dustproof, windproof, weatherproof, rainproof, oven-safe, nonstick, non-toxic, nontoxic, BPA-free, cordless, electric, solar-powered, automatic, manual, digital, analog, mini, giant, cute, funny, pretty,
        beautiful, colourful, cheerful, romantic, festive, creamy, salty, sour, bitter, savory, tasty, delicious, healthy, low-fat, dairy-free, raw, roasted, smoked, whole grain, pink, purple, yellow, orange, brown, gray, golden, silver, matte, glossy,
        striped, dotted, refillable, removable, detachable, waterproof, submersible, insulating, absorbent, stretchy, fitted, loose, plush, fluffy, cooling, soothing, calming, energizing, refreshing, practical, reliable, versatile, simple, chic, cruelty-free,
        fair trade, local, imported, limited, exclusive, professional, lightfast, educational, creative, hardcover, pre-seasoned, cast, recycled, sustainable, durable, washable, squeaky, bouncy, chewy, grain-free, tug-resistant, ventilated, padded""",
    "made": "plastic, metal, aluminum, iron, cast iron, stoneware, marble, granite, rattan, wicker, velvet, cashmere, merino wool, organic cotton, polyester, microfiber, latex, natural rubber, beeswax, soy wax, clay, concrete, teak, maple, birch, cherry wood, beech, gold, silver, pewter, suede, tweed, satin, jute, cardboard, acrylic, neoprene, mesh, enamel, crystal",
    "what": """vacuum, speaker, tablet, laptop, charger, adapter, cable, drone, printer, scanner, monitor, console, controller, mixer, blender, kettle, toaster, grill, oven, fridge, cooker, steamer, teapot, wok, skillet, tray, basket, box, jar, cup, plate, fork, spoon,
        desk, stool, bench, sofa, couch, shelf, bookcase, wardrobe, drawer, cabinet, rug, carpet, curtain, frame, clock, poster, plant, tree, kite, doll, robot, train, rocket, dinosaur, board game, card game, jigsaw, drum, violin, piano, ukulele, coat, dress, skirt, sweater,
        hoodie, belt, cap, glove, sock, shoe, boot, ring, necklace, bracelet, purse, suitcase, umbrella, hammock, sleeping bag, cooler, lantern, torch, flashlight, compass, map, whistle, paddle, kayak, surfboard, skateboard, scooter, tire, pump, saw, wrench, screwdriver, ladder, bucket, rake, hose, mower,
        perfume, cream, lotion, shampoo, razor, towel, sponge, mop, broom, scratcher, feeder, fountain, crate, carrier, harness, squeaker, wand, tunnel, perch, cage, tank, filter, sketchbook, planner, calendar, stapler, folder, journal, stylus, easel, antique, souvenir, starter kit, classic""",
    "use": """bathing, bath time, bedtime, mealtime, playtime, snack time, tug of war, fetch, chewing, digging, climbing, skiing, surfing, sailing, diving, rowing, golf, tennis, football, soccer, basketball, baseball, running, walking, jogging, trekking, mountain biking, racing, dancing, singing, drawing, writing, sketching, crafts, knitting, sewing,
        woodworking, carpentry, repairs, homework, school, college, business, meetings, teaching, learning, coding, editing, podcasting, gaming nights, movie nights, parties, picnics, mountains, weddings, birthdays, Christmas, Halloween, Easter, holidays, vacation, weekends, road trips, backpacking, stargazing, birdwatching, hunting, survival, first aid, recovery, massage, wellness,
        beauty, makeup, hair care, oral care, dental health, hygiene, laundry, dishes, organization, decoration, interior design, entertainment, fun, adventure, mindfulness, sleep training, potty training, weight loss, strength, balance, endurance, stew, soup, pasta, pizza, bread, sushi, rice, porridge, salads, grilling, frying, steaming, brewing, espresso, matcha, juice, smoothies, wine, beer, cocktails, hot days, cold nights, rain, snow, spring, autumn, curiosity, romance, strategy, history, science, math, art, nature, safety at night""",
    "place": "home, house, apartment, attic, basement, porch, yard, backyard, lawn, greenhouse, shed, barn, stable, farm, campsite, trail, forest, lake, river, city, street, school, library, restaurant, café, bar, shop, store, hotel, bakery, salon, spa, studio apartment, dorm room, home office, playroom, laundry room, shower, sink, dining room, truck, van, train, airplane, terrarium, kennel, coop",
}.items():
    TAGS[_kind] += [w for w in words(_more) if w not in TAGS[_kind]]

# feat: what it has; things: several things, countable
TAGS["feat"] = words("""bluetooth, Bluetooth, USB-C, GPS, LED, Wi-Fi, NFC, HEPA, AMOLED, IP67, 5G, HDMI, GPIO, noise cancelling, active noise cancelling, touch screen, voice control, fast charging, long battery life, a rechargeable battery, lumbar support, memory foam, quiet clicks, auto shut-off,
    temperature control, a digital display, extra pockets, two pockets, a zipper, a hood, a lid, a handle, handles, wheels, straps, bells, catnip inside, real feathers, a squeaker, built-in storage, free returns, garlic, chili, cinnamon, peppermint, lavender, vanilla, lemon, ginger, honey, mint, sea salt, dark chocolate, vitamin C, aloe vera, tea tree oil, omega-3,
    umami, protein, fiber, caffeine, 8GB, 16GB, 256GB, 4K, 20V, 12 inch, 5 quart, 32 oz, 1000 pieces, 100 pieces, size M, size XL, A4, A5, extra grip, a tilt-head, a laser, a compass, a mirror, reflective strips, UV protection, SPF 50, sun protection, glare-free display, stainless blades, double walls, a non-slip base, organic ingredients, a lifetime warranty""")
TAGS["things"] = words("""sneakers, shoes, boots, sandals, slippers, socks, gloves, jeans, shorts, headphones, earbuds, speakers, cables, glasses, sunglasses, goggles, binoculars, treats, snacks, cookies, crackers, nuts, almonds, noodles, chips, candies, herbs, spices, seeds, flowers, bulbs, plants, plates, bowls, cups, mugs, spoons, knives, pans, pots, tools, screws, nails, bolts,
    batteries, light bulbs, candles, pillows, cushions, blankets, towels, curtains, toys, balls, bones, blocks, puzzles, board games, cards, stickers, markers, crayons, pencils, pens, brushes, paints, notebooks, books, comics, posters, records, strings, drumsticks, accessories, supplies, essentials, gifts, souvenirs, basics, costumes, collars, leashes, mice, feathers""")

OPEN_TAG["feat"] = ["Meet {N} with {T}.", "{Nc} come{s} with {T}.", "Discover {N}, now with {T}.", "With {T} on board, {N} {is} ready for you.", "Thanks to {T}, {N} stand{s} out.", "{Nc} {has} {T} and much more.", "Here {is} {N} with {T}."]
OPEN_TAG["things"] = ["Meet {N}, the {T} you have been waiting for.", "If you need new {T}, choose {N}.", "Looking for {T}? Here {is} {N}.", "When it comes to {T}, {N} {is} hard to beat.", "For lovers of good {T}, here {is} {N}.", "Not all {T} are the same: discover {N}."]
BODY["feat"] = ["{It} come{s} with {T}.", "Thanks to {T}, {it} stand{s} out.", "With {T}, {it} {is} ready for anything.", "{It} {has} {T} and more.", "You also get {T}.", "And then there is {T}, which makes a real difference."]
BODY["things"] = ["If you need {T}, {it} {is} a good place to start.", "When it comes to {T}, {it} {is} hard to beat.", "Good {T} are hard to find, but here you have them.", "{It} {is} a treat for everyone who loves good {T}.", "You may never need other {T}."]
BODY["feats"] = ["{It} come{s} with {T}.", "{It} {has} {T}.", "You get {T}, all in one."]
BODY["peoples"] = ["{It} {is} a hit with {T}.", "{It} {was} made for {T}.", "{It} make{s} a fine gift for {T}."]
BODY["places"] = ["{It} {is} at home in the {T}.", "{It} look{s} good in the {T}."]
BODY["adjs"] += ["{It} {is} {T} at the same time.", "Being {T}, {it} {is} hard to beat.", "Few things are so {T}."]
HALF["feat"] = ["With {T}", "Thanks to {T}"]
HALF["things"] = ["If you need {T}", "For lovers of {T}"]
MAIN["feat"] = ["{it} come{s} with {T}", "{it} {has} {T}"]
MAIN["things"] = ["{it} {is} the answer for {T}", "{it} {is} a good choice for {T}"]

OPEN += """Your search ends here with {N}.|Fall in love with {N}.|Add {N} to your collection.|Brighten up your week with {N}.|Life is better with {N}.|It is hard not to smile at {N}.|Keep it simple with {N}.|Make the most of your time with {N}.
Small joys matter, and {N} {is} one of them.|Upgrade your day with {N}.|Step up to {N}.|Here comes something special: {N}.|Let us introduce {N}.|A good day begins with {N}.|Come and see {N}.|Everyone is talking about {N}.""".replace("\n", "|").split("|")
OPEN_TAG["any"] += ["If {T} sounds good to you, meet {N}.", "{Nc} know{s} all about {T}.", "Bring {T} home with {N}.", "Make {T} a part of your day with {N}.", "Your love of {T} has found a match in {N}.", "{Nc} turn{s} {T} into something special.", "There is more to {T} than you think, and {N} show{s} it."]
OPEN_TAG["list"] += ["Bring {T} together with {N}.", "Whether you came for {T} or just to look around, you will like {N}.", "{Nc} stand{s} for {T}.", "{Words} sum up {N}: {T}.", "Those who search for {T} will find {N}.", "Get {T} in one go with {N}."]
OPEN_TAG["adj"] += ["{Nc} {is} proof that {T} can be fun.", "Who said that {T} had to be boring? Meet {N}.", "Go {T} with {N}.", "Feel the difference with {N}, {T} by design.", "{Nc} {is} wonderfully {T}."]
OPEN_TAG["who"] += ["What does a {T} want most? {Nc}, of course.", "Make your {T} smile with {N}.", "{Nc} {is} a gift that any {T} will remember."]
OPEN_TAG["people"] += ["{Nc} {is} for {T} who want the best.", "Calling all {T}: here {is} {N}.", "Delight {T} with {N}."]
OPEN_TAG["use"] += ["Take {T} to the next level with {N}.", "{Nc} {is} your partner for {T}.", "Think of {T}, then think of {N}.", "Make {T} easy with {N}."]
OPEN_TAG["what"] += ["{Nc} {is} the {T} that everyone wants.", "Your next {T} is here: {N}.", "Choose {N} when only a good {T} will do."]
OPEN_TAG["made"] += ["{Nc} bring{s} out the best in {T}.", "The beauty of {T} meets good design in {N}.", "Touch the {T} and you will love {N}."]
OPEN_TAG["place"] += ["Give your {T} a fresh look with {N}.", "{Nc} make{s} your {T} a better place."]
BODY["any"] += ["{It} also stand{s} for {T}.", "There is plenty of {T} to enjoy.", "{It} {has} everything to do with {T}.", "{It} put{s} {T} within reach.", "Never go without {T} again.", "A touch of {T} makes all the difference.", "You get {T} as well.", "Fans of {T} will agree.", "And yes, {T} is part of it."]
BODY["list"] += ["Fans of {T} will feel at home.", "{It} {has} a lot to offer: {T}.", "You get {T}, all in one.", "Whether it is {T} that you want, {it} will do the job.", "There is plenty to enjoy: {T}.", "{It} put{s} {T} within reach.", "If you like the sound of {T}, look no further."]
BODY["adj"] += ["{It} {is} not only good but {T}, too.", "What makes {it} special? {It} {is} {T}.", "{It} {is} surprisingly {T}.", "Best of all, {it} {is} {T}."]
BODY["who"] += ["Watch your {T} enjoy every moment.", "No {T} can say no to {it}."]
BODY["use"] += ["Your {T} will never be the same.", "{It} take{s} the trouble out of {T}.", "Time for {T}? {It} {is} ready."]
BODY["made"] += ["{It} owe{s} {its} charm to {T}.", "Thanks to {T}, {it} will last."]
BODY["place"] += ["Your {T} will look better at once.", "{It} bring{s} new life to the {T}."]
BODY["what"] += ["Who would not want such a {T}?", "{It} {is} everything a {T} should be."]
CLOSE["any"] += """Treat yourself or someone you love.|Go on, you have earned it.|You will find a hundred ways to use {it}.|It is the little things that count.|No fuss, no tricks, just a good idea.|Ready when you are, day after day.|Smiles are included.|Your friends will want one too.|You will not regret it.
Once is never enough.|Who knew that something so simple could be so good?|See what all the talk is about.|Get yours while you can.|Tomorrow starts today.|That is what we call a good deal.|Everything else can wait.|Good taste never goes out of style.|We think that you will love {it}.|{It} will brighten the dullest day.""".replace("\n", "|").split("|")
CLOSE["pet"] += """Boredom does not stand a chance.|Paws up for a good time.|Even the pickiest pet will approve.|Let the fun begin.""".split("|")
CLOSE["kitchen"] += """Dinner is served.|Even simple dishes turn out well.|Your kitchen will thank you.""".split("|")
CLOSE["outdoor"] += """Adventure is calling.|Leave the map at home and follow your nose.|The great outdoors is waiting.""".split("|")
CLOSE["tech"] += """Welcome to the future.|Technology should be this easy.|Your old one can retire now.""".split("|")
CLOSE["clothing"] += """Look good and feel good.|Step out in style.|Heads will turn.""".split("|")
CLOSE["home"] += """Home is where the heart is.|Make yourself comfortable.|Every room has a story to tell.""".split("|")
CLOSE["food"] += """Breakfast has never tasted so good.|Your taste buds will thank you.|Open it, taste it, love it.""".split("|")
CLOSE["sport"] += """Ready, set, go.|Sweat today and smile tomorrow.""".split("|")
CLOSE["kids"] += """Let them play and let them laugh.|Bedtime can wait a little.""".split("|")
CLOSE_NAME += ["{Nc}: once you have tried {it}, you will know why.", "Good days begin with {N}.", "{Nc} will be the best part of your day.", "Do not let {N} get away.", "Let {N} surprise you.", "Say yes to {N}."]
