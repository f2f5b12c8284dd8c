// What rtmw.hpp does to one person, for test_app_page.py. The header comes first: it is held to more warnings.
#include "rtmw.hpp"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include <cstdio>
#include <cstdlib>
#include <fstream>
template <class T>
std::vector<T> read(const char* name, size_t count) {
    std::vector<T> values(count);
    std::ifstream(name, std::ios::binary).read(reinterpret_cast<char*>(values.data()), count * sizeof(T));
    return values;
}
// columns rows x1 y1 x2 y2, in a folder with image.bgr and logits; writes crop.bgr and prints x, y, z, score,
// confidence
int main(int, char** words) {
    const int columns = atoi(words[1]), rows = atoi(words[2]);
    const auto image = read<uint8_t>("image.bgr", size_t(columns) * rows * 3);
    const auto crop = rtmw::crop_around(atof(words[3]), atof(words[4]), atof(words[5]), atof(words[6]), 192, 256);
    const auto pixels = rtmw::cut(image.data(), columns, rows, size_t(columns) * 3, crop);
    std::ofstream("crop.bgr", std::ios::binary).write(reinterpret_cast<const char*>(pixels.data()), pixels.size());
    const auto x = read<float>("x.f32", 133 * 384), y = read<float>("y.f32", 133 * 512),
               z = read<float>("z.f32", 133 * 384);
    for (const auto& point : rtmw::decode(x.data(), y.data(), 133, crop, z.data(), 384, 2.1744869))
        printf("%.9g %.9g %.9g %.9g %.9g\n", point.x, point.y, point.z, point.score,
               rtmw::confidence(point.score, 0.7, -4));
    for (const auto& point : rtmw::decode(x.data(), y.data(), 1, crop))
        if (point.z != 0) return 1;
}
