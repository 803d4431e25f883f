// SPDX-License-Identifier: MIT
// A load for the C++ compiler proper (cc1plus -O2): templates, overloads, constant expressions, loops to optimise. It
// includes nothing, so that what is compiled does not depend on what is installed.
namespace load {

template <typename T, T Value>
struct constant {
    static constexpr T value = Value;
};

template <unsigned N>
struct fibonacci : constant<unsigned long, fibonacci<N - 1>::value + fibonacci<N - 2>::value> {};
template <>
struct fibonacci<0> : constant<unsigned long, 0> {};
template <>
struct fibonacci<1> : constant<unsigned long, 1> {};

template <typename... Types>
struct list {};

template <typename List, typename Type>
struct append;
template <typename... Types, typename Type>
struct append<list<Types...>, Type> {
    using type = list<Types..., Type>;
};

template <unsigned N>
struct numbers {
    using type = typename append<typename numbers<N - 1>::type, constant<unsigned, N>>::type;
};
template <>
struct numbers<0> {
    using type = list<>;
};

template <typename... Types>
constexpr unsigned sum(list<Types...>)
{
    return (0u + ... + Types::value);
}

template <typename Key, typename Value>
class tree {
    struct node {
        Key key;
        Value value;
        node *left = nullptr;
        node *right = nullptr;
    };
    node *root = nullptr;

    static void drop(node *at)
    {
        if (!at)
            return;
        drop(at->left);
        drop(at->right);
        delete at;
    }

public:
    ~tree()
    {
        drop(root);
    }
    Value &operator[](const Key &key)
    {
        node **at = &root;
        while (*at && !((*at)->key == key))
            at = key < (*at)->key ? &(*at)->left : &(*at)->right;
        if (!*at)
            *at = new node{key, Value{}};
        return (*at)->value;
    }
    template <typename Function>
    void each(Function function) const
    {
        walk(root, function);
    }

private:
    template <typename Function>
    static void walk(const node *at, Function &function)
    {
        if (!at)
            return;
        walk(at->left, function);
        function(at->key, at->value);
        walk(at->right, function);
    }
};

template <typename T, unsigned Rows, unsigned Columns>
struct matrix {
    T at[Rows][Columns] = {};

    template <unsigned Other>
    matrix<T, Rows, Other> operator*(const matrix<T, Columns, Other> &right) const
    {
        matrix<T, Rows, Other> result;
        for (unsigned i = 0; i < Rows; i++)
            for (unsigned j = 0; j < Other; j++)
                for (unsigned k = 0; k < Columns; k++)
                    result.at[i][j] += at[i][k] * right.at[k][j];
        return result;
    }
};

template <unsigned N>
double powers(double x)
{
    matrix<double, N % 5 + 2, N % 3 + 2> a;
    matrix<double, N % 3 + 2, N % 7 + 2> b;
    for (auto &row : a.at)
        for (auto &cell : row)
            cell = x += N;
    for (auto &row : b.at)
        for (auto &cell : row)
            cell = x *= 0.5;
    auto c = a * b;
    tree<unsigned, double> places;
    for (unsigned i = 0; i < N + 9; i++)
        places[i * 2654435761u % 97] += c.at[i % (N % 5 + 2)][i % (N % 7 + 2)];
    double total = fibonacci<N + 30>::value;
    places.each([&](unsigned key, double value) { total += key * value; });
    if constexpr (N > 0)
        return total + powers<N - 1>(x);
    else
        return total;
}

} // namespace load

int main(int argc, char **)
{
    static_assert(load::sum(load::numbers<90>::type{}) == 4095);
    return static_cast<int>(load::powers<5>(argc)) & 1;
}
