/* SPDX-License-Identifier: MIT */
#include "core/bins.h"

#include "core/words.h"

/* Bytes of a class's first chain: small, so that a program which wants a few blocks of each of many
 * sizes touches little memory. */
static const size_t START_BYTES = 1024;

uint32_t hak_cache_capacity(hak_class cls)
{
    size_t size = hak_class_size(cls);

    return size <= 16     ? CONFIG_CACHE_BLOCKS_16
           : size <= 32   ? CONFIG_CACHE_BLOCKS_32
           : size <= 64   ? CONFIG_CACHE_BLOCKS_64
           : size <= 128  ? CONFIG_CACHE_BLOCKS_128
           : size <= 256  ? CONFIG_CACHE_BLOCKS_256
           : size <= 512  ? CONFIG_CACHE_BLOCKS_512
           : size <= 1024 ? CONFIG_CACHE_BLOCKS_1024
                          : CONFIG_CACHE_BLOCKS_LARGER;
}

/* Most blocks of one chain: half of the class's configured capacity, at most one refill. */
static uint32_t bin_limit_max(hak_class cls)
{
    uint32_t capacity = hak_cache_capacity(cls);
    uint32_t limit = capacity / 2 < CONFIG_REFILL_BATCH ? capacity / 2 : CONFIG_REFILL_BATCH;

    return limit > 0 ? limit : 1;
}

static size_t bin_bytes_of(hak_class cls, uint32_t limit)
{
    return 2 * (size_t)limit * hak_class_size(cls);
}

static void bin_set_limit(struct hak_bins *bins, hak_class cls, uint32_t limit)
{
    struct hak_bin *bin = hak_bin_of(bins, cls);

    bins->granted += bin_bytes_of(cls, limit) - bin_bytes_of(cls, bin->limit);
    bin->room += (int32_t)(limit - bin->limit);
    bin->limit = (uint16_t)limit;
}

static uint32_t bin_length(const struct hak_bin *bin)
{
    return bin->limit - (uint32_t)bin->room;
}

static struct hak_chain bin_take_list(struct hak_bin *bin)
{
    struct hak_chain list = {bin->head, bin_length(bin)};

    bin->head = NULL;
    bin->room = (int32_t)bin->limit;
    return list;
}

static void bin_put_list(struct hak_bin *bin, struct hak_chain list)
{
    bin->head = list.head;
    bin->room = (int32_t)(bin->limit - list.count);
}

static struct hak_chain bin_take_spare(hak_packed_chain *spare)
{
    struct hak_chain chain = hak_chain_unpack(*spare);

    *spare = 0;
    return chain;
}

static void bin_give_back(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    if (chain.count == 0)
        return;
    hak_return_chain(shard, cls, chain);
}

/* Room for one chain more of another class: the classes take turns in giving half of what they may
 * hold, and what they hold beyond that goes to the back end. */
static bool bin_shrink_another(struct hak_bins *bins, struct hak_shard *shard, hak_class wanting)
{
    for (unsigned tried = 0; tried < HAK_CLASSES; tried++) {
        hak_class cls = hak_class_at(bins->victim);
        struct hak_bin *bin = hak_bin_of(bins, cls);
        hak_packed_chain *spare = &bins->spare[bins->victim];
        bins->victim = (bins->victim + 1) % HAK_CLASSES;
        if (cls == wanting || bin->limit == 0)
            continue;
        uint32_t limit = bin->limit / 2u;
        if (hak_chain_unpack(*spare).count > limit)
            bin_give_back(shard, cls, bin_take_spare(spare));
        if (bin_length(bin) > limit)
            bin_give_back(shard, cls, bin_take_list(bin));
        bin_set_limit(bins, cls, limit);
        return true;
    }
    return false;
}

/* A class that has missed or overflowed may hold twice as much, if the budget has room. */
static hak_cold void bin_grow(struct hak_bins *bins, struct hak_shard *shard, hak_class cls)
{
    uint32_t limit = hak_bin_of(bins, cls)->limit;
    uint32_t most = hak_bin_of(bins, cls)->most;
    uint32_t wanted = limit > 0 ? 2 * limit : (uint32_t)(START_BYTES / hak_class_size(cls));

    wanted = wanted > 0 ? wanted : 1;
    wanted = wanted < most ? wanted : most;
    size_t more = bin_bytes_of(cls, wanted) - bin_bytes_of(cls, limit);
    while (bins->granted + more > bins->budget)
        if (!bin_shrink_another(bins, shard, cls))
            return;
    bin_set_limit(bins, cls, wanted);
}

static inline bool bin_may_grow(const struct hak_bin *bin)
{
    return bin->limit < bin->most;
}

/* A class touches fresh memory after it has borrowed one block for each so many bytes of a block: by then the calls have
 * cost about as much time as its pages. */
enum { BORROW_STEP = 64 };

/* A block of a class that is at most a quarter larger, and serves every alignment that this one does: one that lies
 * free while this class has none that was used before. NULL: there is none, or the class has borrowed enough. */
static void *bin_borrow(struct hak_bins *bins, struct hak_shard *shard, hak_class cls)
{
    size_t size = hak_class_size(cls);
    size_t most = size / BORROW_STEP < UINT8_MAX ? size / BORROW_STEP : UINT8_MAX;
    uint8_t *borrowed = &bins->borrowed[hak_class_index(cls)];
    void *block = NULL;

    for (unsigned i = hak_class_index(cls) + 1;
         *borrowed < most && block == NULL && hak_class_sizes[i] > 0 &&
         hak_class_sizes[i] <= size + size / 4;
         i++) {
        if (hak_class_sizes[i] % (size & -size) != 0)
            continue;
        block = hak_bin_take(&bins->bin[i]);
        if (block == NULL && bins->spare[i]) {
            bin_put_list(&bins->bin[i], bin_take_spare(&bins->spare[i]));
            block = hak_bin_take(&bins->bin[i]);
        }
        if (block == NULL)
            block = hak_refill_used(shard, hak_class_at(i), 1).head;
    }
    *borrowed = block ? (uint8_t)(*borrowed + 1) : 0;
    return block;
}

/* Takes one of the blocks that have come for a class. A class that may hold nothing gets one block. */
static inline void *bin_take_of(struct hak_bin *bin, struct hak_chain chain)
{
    if (chain.count == 0 || bin->limit == 0)
        return chain.head;
    bin_put_list(bin, chain);
    return hak_bin_take(bin);
}

static inline uint32_t bin_wants(const struct hak_bin *bin)
{
    return bin->limit > 0 ? bin->limit : 1;
}

static inline void *bin_refill(struct hak_bins *bins, struct hak_shard *shard, hak_class cls)
{
    struct hak_bin *bin = hak_bin_of(bins, cls);

    if (bin_may_grow(bin))
        bin_grow(bins, shard, cls);
    return bin_take_of(bin, hak_refill_chain(shard, cls, bin_wants(bin)));
}

/* Likewise, for a class that borrows before it touches fresh memory. */
static hak_cold void *bin_refill_or_borrow(struct hak_bins *bins, struct hak_shard *shard,
                                           hak_class cls)
{
    struct hak_bin *bin = hak_bin_of(bins, cls);
    struct hak_chain chain = hak_refill_used(shard, cls, bin_wants(bin));

    if (chain.count > 0) {
        if (bin_may_grow(bin))
            bin_grow(bins, shard, cls);
        return bin_take_of(bin, chain);
    }
    void *borrowed = bin_borrow(bins, shard, cls);
    return borrowed ? borrowed : bin_refill(bins, shard, cls);
}

void *hak_bins_refill(struct hak_bins *bins, struct hak_shard *shard, hak_class cls)
{
    struct hak_bin *bin = hak_bin_of(bins, cls);
    struct hak_chain spare = bin_take_spare(&bins->spare[hak_class_index(cls)]);

    if (spare.count > 0) {
        bin_put_list(bin, spare);
        return hak_bin_take(bin);
    }
    if (BACKEND_REFILLS_USED && unlikely(hak_class_size(cls) >= HAK_BORROW_LEAST))
        return bin_refill_or_borrow(bins, shard, cls);
    return bin_refill(bins, shard, cls);
}

void hak_bins_flush(struct hak_bins *bins, struct hak_shard *shard, hak_class cls, void *block)
{
    struct hak_bin *bin = hak_bin_of(bins, cls);
    hak_packed_chain *spare = &bins->spare[hak_class_index(cls)];
    struct hak_chain older = bin_take_spare(spare);

    *spare = hak_chain_pack(bin_take_list(bin));
    bin_give_back(shard, cls, older);
    if ((older.count > 0 || bin->limit == 0) && bin_may_grow(bin))
        bin_grow(bins, shard, cls);
    if (!hak_bin_put(bin, block)) {
        ((struct hak_block *)block)->next = NULL;
        bin_give_back(shard, cls, (struct hak_chain){block, 1});
    }
}

size_t hak_bins_held(const struct hak_bins *bins, hak_class cls)
{
    unsigned index = hak_class_index(cls);

    return bin_length(&bins->bin[index]) + hak_chain_unpack(bins->spare[index]).count;
}

void hak_bins_walk(const struct hak_bins *bins, bool (*visit)(void *block, void *context),
                   void *context)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        struct hak_block *block = bins->bin[i].head;
        while (block && visit(block, context))
            block = block->next;
        block = hak_chain_unpack(bins->spare[i]).head;
        while (block && visit(block, context))
            block = block->next;
    }
}

/* The longest list that a class may ever have. No class that adapts gets more than half of the budget, or
 * it would drive out all others at each miss; fixed, every class has an equal share. */
static uint32_t bin_limit_most(const struct hak_bins *bins, hak_class cls)
{
    size_t share = enabled(CONFIG_CACHE_ADAPTIVE) ? bins->budget / 2 : bins->budget / HAK_CLASSES;
    size_t limit = share / bin_bytes_of(cls, 1);

    return limit < bin_limit_max(cls) ? (uint32_t)limit : bin_limit_max(cls);
}

void hak_bins_init(struct hak_bins *bins, size_t budget)
{
    bins->budget = budget;
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        bins->bin[i].most = (uint16_t)bin_limit_most(bins, hak_class_at(i));
        if (!enabled(CONFIG_CACHE_ADAPTIVE))
            bin_set_limit(bins, hak_class_at(i), bins->bin[i].most);
    }
}

static void bin_empty(struct hak_bins *bins, struct hak_shard *shard, unsigned index)
{
    bin_give_back(shard, hak_class_at(index), bin_take_list(&bins->bin[index]));
    bin_give_back(shard, hak_class_at(index), bin_take_spare(&bins->spare[index]));
}

bool hak_bins_tick(struct hak_bins *bins, struct hak_shard *shard)
{
    if (!hak_idle_round(&bins->idle, hak_clock_ms()))
        return false;
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        if (hak_idle_class(&bins->idle, hak_class_at(i), bins->bin[i].head))
            bin_empty(bins, shard, i);
    return true;
}

void hak_bins_empty(struct hak_bins *bins, struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        bin_empty(bins, shard, i);
}

void hak_bins_forget(struct hak_bins *bins)
{
    size_t budget = bins->budget;

    hak_words_clear(bins, sizeof(*bins) / sizeof(uint64_t));
    hak_bins_init(bins, budget);
}

static bool bin_chain_valid(struct hak_chain chain)
{
    while (chain.count > 0 && chain.head) {
        chain.head = chain.head->next;
        chain.count--;
    }
    return chain.count == 0 && chain.head == NULL;
}

bool hak_bins_valid(const struct hak_bins *bins)
{
    size_t granted = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        const struct hak_bin *bin = &bins->bin[i];
        struct hak_chain spare = hak_chain_unpack(bins->spare[i]);
        if (bin->limit > bin->most || bin->most != bin_limit_most(bins, hak_class_at(i)) ||
            bin->room < 0 || (uint32_t)bin->room > bin->limit || spare.count > bin->limit)
            return false;
        if (!bin_chain_valid((struct hak_chain){bin->head, bin_length(bin)}) ||
            !bin_chain_valid(spare))
            return false;
        granted += bin_bytes_of(hak_class_at(i), bin->limit);
    }
    return granted == bins->granted && granted <= bins->budget;
}
